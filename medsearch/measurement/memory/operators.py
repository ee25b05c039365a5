"""One call of an operator as plain data: it can be named, sent to another process, and made again on zeros."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medsearch.core.children import ChildDied, Helper
from medsearch.core.deaths import Deaths

LIMIT_SECONDS = 120.0
"""How long a single operator may take; those of a model take milliseconds."""
DOING = "probing an operator"
FAULTS = 3
"""Shapes in which an operator in 16 bits may end its process before no other is tried."""


@dataclass(frozen=True, kw_only=True)
class Like:
    """A tensor without its contents."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, x: Tensor) -> Like:
        """What ``x``, real or fake, is like."""
        return cls(shape=tuple(x.shape), stride=tuple(x.stride()), dtype=x.dtype)

    @property
    def bytes(self) -> int:
        """Of the elements, gaps between them left out."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def zeros(self, device: str) -> Tensor:
        """Zeros in its place: legal wherever indices are wanted, and no slower than other numbers."""
        extent = 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.stride, strict=True))
        return torch.zeros(max(extent, 1), dtype=self.dtype, device=device).as_strided(self.shape, self.stride)

    def __str__(self) -> str:
        sides, steps = (" ".join(map(str, numbers)) for numbers in (self.shape, self.stride))
        return f"{str(self.dtype).removeprefix('torch.')}[{sides}; {steps}]"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One call of an operator; as text, a key that says all that its memory depends on except the machine.

    Args:
        name: with its overload, such as ``"aten::convolution.default"``.
        args, kwargs: of the call, with a :class:`Like` in place of every tensor.
        device: ``"cpu"`` or ``"cuda"``.
        threads: of torch; some operators take so much for each.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()
    device: str = "cpu"
    threads: int = 1

    @classmethod
    def of(cls, func: Any, args: Any, kwargs: Any, *, device: str) -> Operator:
        """The call ``func(*args, **kwargs)`` as torch dispatches it, its tensors real or fake."""
        name = func.name()
        return cls(
            name=name if "." in name else f"{name}.default",
            args=tuple(map(_plain, args)),
            kwargs=tuple((key, _plain(value)) for key, value in sorted(kwargs.items())),
            device=device,
            threads=torch.get_num_threads(),
        )

    @property
    def kind(self) -> str:
        """What it is whatever the shapes: its name and the types of its tensors."""
        types = sorted({str(like.dtype).removeprefix("torch.") for like in self.tensors})
        return f"{self.name} of {' and '.join(types)}, whatever the shapes"

    @property
    def in_16_bits(self) -> bool:
        """Whether any of its tensors is."""
        return any(like.dtype.itemsize == 2 for like in self.tensors)

    @property
    def tensors(self) -> tuple[Like, ...]:
        """Of all arguments."""
        return tuple(leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Like))

    def on_zeros(self) -> Callable[[], Any]:
        """The call, ready to be made: its tensors are there, full of zeros."""
        space, _, rest = self.name.partition("::")
        packet, _, overload = rest.partition(".")
        func = getattr(getattr(getattr(torch.ops, space), packet), overload)
        args = [_real(arg, self.device) for arg in self.args]
        kwargs = {key: _real(value, self.device) for key, value in self.kwargs}
        return lambda: func(*args, **kwargs)

    def __str__(self) -> str:
        named = (f"{key}={_text(value)}" for key, value in self.kwargs)
        return f"{self.name}({', '.join((*map(_text, self.args), *named))}) on {self.device}, {self.threads} threads"


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Like.of(value)
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _real(value: Any, device: str) -> Any:
    if isinstance(value, Like):
        return value.zeros(device)
    return [_real(inner, device) for inner in value] if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return f"({', '.join(map(_text, value))})" if isinstance(value, tuple) else str(value)


def isolated(run: Callable[[Operator], int], helper: Helper, deaths: Deaths) -> Callable[[Operator], int]:
    """``run`` carried out by ``helper``; what has ended a process before is not run again, but said to have died.

    So is, in 16 bits, every operator of a kind that has done so in :data:`FAULTS` shapes: every death takes seconds,
    and there is another precision.
    """
    faults: Counter[str] = Counter()

    def measure(operator: Operator) -> int:
        if known := deaths.of(str(operator)) or deaths.of(operator.kind):
            raise ChildDied(DOING, known.how, known.place)
        try:
            return int(helper.call(run, operator, doing=DOING, limit_s=LIMIT_SECONDS))
        except ChildDied as death:
            deaths.record(death, str(operator))
            faults[operator.kind] += death.fault and operator.in_16_bits
            if faults[operator.kind] == FAULTS:
                deaths.record(death, operator.kind)
            raise

    return measure
