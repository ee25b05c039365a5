"""One operator as plain data, so that it can be run elsewhere: in a process that it may end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from medsearch.core.children import ChildDied, Helper
from medsearch.core.deaths import Deaths

LIMIT_SECONDS = 120.0
"""How long a single operator may take; those of a model take milliseconds."""
DOING = "probing an operator"


@dataclass(frozen=True, kw_only=True)
class Blank:
    """A tensor without contents: shape, strides and type."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        dense = self.stride == torch.empty(self.shape, device="meta").stride()
        steps = "" if dense else f" by {'x'.join(map(str, self.stride))}"
        return f"{str(self.dtype).removeprefix('torch.')}[{'x'.join(map(str, self.shape))}{steps}]"

    def zeros(self, device: torch.device) -> Tensor:
        """Zeros in its place: legal wherever indices are wanted, and no slower than other numbers."""
        extent = 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.stride, strict=True))
        return torch.zeros(max(extent, 1), dtype=self.dtype, device=device).as_strided(self.shape, self.stride)


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator with what it is called on.

    Args:
        name: of the overload, ``aten::mm.default``.
        args, kwargs: with :class:`Blank` in place of tensors.
        device: ``"cpu"`` or ``"cuda"``.
    """

    name: str
    args: Any
    kwargs: Any
    device: str

    @classmethod
    def of(cls, func: Any, args: Any, kwargs: Any, device: torch.device) -> Operator:
        """The call of ``func``, an overload, on tensors that may be fake."""
        blank_args, blank_kwargs = tree_map(blank, (args, kwargs))
        return cls(
            name=f"{func._schema.name}.{func._overloadname}", args=blank_args, kwargs=blank_kwargs, device=device.type
        )

    def __str__(self) -> str:
        """The operator in a line: the same call gives the same text."""
        named = [f"{key}={_shown(value)}" for key, value in self.kwargs.items()]
        return f"{self.name}({', '.join([*map(_shown, self.args), *named])})"

    def call(self) -> Callable[[], Any]:
        """The call, on zeros that are there already."""
        space, _, name = self.name.partition("::")
        packet, _, overload = name.partition(".")
        func = getattr(getattr(getattr(torch.ops, space), packet), overload)
        device = torch.device(self.device)
        args, kwargs = tree_map(
            lambda leaf: leaf.zeros(device) if isinstance(leaf, Blank) else leaf, (self.args, self.kwargs)
        )
        return lambda: func(*args, **kwargs)


def blank(leaf: Any) -> Any:
    """A leaf of arguments or results as plain data."""
    if not isinstance(leaf, Tensor):
        return leaf
    return Blank(shape=tuple(leaf.shape), stride=tuple(leaf.stride()), dtype=leaf.dtype)


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)


def isolated(run: Callable[[Operator], int], helper: Helper, deaths: Deaths) -> Callable[[Operator], int]:
    """``run`` carried out by ``helper``; what has ended a process before is not run again, but said to have died."""

    def measure(operator: Operator) -> int:
        if known := deaths.of(str(operator)):
            raise ChildDied(DOING, known.how, known.place)
        try:
            return int(helper.call(run, operator, doing=DOING, limit_s=LIMIT_SECONDS))
        except ChildDied as death:
            deaths.record(death, str(operator))
            raise

    return measure


def tensors_in(value: Any) -> list[Blank]:
    """All tensors in arguments, however deep."""
    if isinstance(value, Blank):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for item in value for found in tensors_in(item)] if isinstance(value, list | tuple) else []


def total(blanks: Sequence[Blank]) -> int:
    """Bytes of the numbers in tensors."""
    return sum(torch.empty(blank.shape, device="meta").numel() * blank.dtype.itemsize for blank in blanks)
