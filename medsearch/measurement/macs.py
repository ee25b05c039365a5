"""Multiply-adds, counted while a computation runs: what reaches torch's dispatcher, seen one operator at a time.

Counted are convolutions, matrix products and attention; all else (norms, elementwise, interpolation, transforms) counts
nothing.  What is made of several operators, such as ``einsum``, is counted by its pieces.  Shapes alone matter, so
tensors on the meta device do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


def count(run: Callable[[], object]) -> int:
    """Multiply-adds that ``run()`` does in its forward pass; no gradients are recorded meanwhile."""
    with torch.no_grad(), _Counter() as counter:
        run()
    return counter.total


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = _rule(func.overloadpacket)
        if rule is None:
            with self:
                pieces = func.decompose(*args, **kwargs)
            if pieces is not NotImplemented:
                return pieces
        result = func(*args, **kwargs)
        if rule is not None:
            self.total += rule(result, *args, **kwargs)
        return result


def _rule(packet: Any) -> Callable[..., int] | None:
    name = packet.__name__
    return _attention if name.startswith("_scaled_dot_product_") else _RULES.get(packet)


def _convolution(result: Tensor, x_BCS: Tensor, weight: Tensor, *rest: Any, **_: Any) -> int:
    """Every output reads the channels of its group in the whole window; transposed, every input writes them."""
    transposed = rest[4]
    return (x_BCS if transposed else result).numel() * math.prod(weight.shape[1:])


def _product(result: Tensor, left: Tensor, *_: Any, **__: Any) -> int:
    return result.numel() * left.shape[-1]


def _added_product(result: Tensor, added: Tensor, left: Tensor, *_: Any, **__: Any) -> int:
    return result.numel() * left.shape[-1]


def _added_batched_product(result: Tensor, added: Tensor, left: Tensor, *_: Any, **__: Any) -> int:
    return result.numel() * left.shape[0] * left.shape[-1]


def _attention(result: Any, q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor, *_: Any, **__: Any) -> int:
    """Scores and weighted sums in full, also where a mask or causality would allow less."""
    pairs = math.prod(q_BHND.shape[:-1]) * k_BHMD.shape[-2]
    return pairs * (q_BHND.shape[-1] + v_BHMD.shape[-1])


_RULES: dict[Any, Callable[..., int]] = {
    _aten.convolution: _convolution,
    _aten._convolution: _convolution,
    _aten.mm: _product,
    _aten.bmm: _product,
    _aten.mv: _product,
    _aten.dot: _product,
    _aten.vdot: _product,
    _aten.linear: _product,
    _aten._int_mm: _product,
    _aten.addmm: _added_product,
    _aten._addmm_activation: _added_product,
    _aten.baddbmm: _added_product,
    _aten.addmv: _added_product,
    _aten.addbmm: _added_batched_product,
}
