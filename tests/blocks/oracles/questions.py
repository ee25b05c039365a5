"""What can be asked of a part; the files beside this one give the answers, one function for each type of module."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import Any, NamedTuple

from torch import Tensor, nn

Size = tuple[int, ...]
Sizes = list[tuple[int, ...]]


class ReceptiveField(NamedTuple):
    """No output depends on an input more than ``radius`` positions away along any axis.

    Away from the borders, moving the input by a multiple of ``step`` positions moves the output by as many.
    """

    radius: int
    step: int = 1


@singledispatch
def macs(part: nn.Module, size: Size) -> int:
    """Multiply-adds of one image whose map has this size (a head: the sizes of all stages and of the image)."""
    raise NotImplementedError(f"say in tests/blocks/oracles what {type(part).__name__} costs")


@singledispatch
def parameter_count(part: nn.Module) -> int:
    """Number of parameters, from widths and kernels."""
    raise NotImplementedError(f"say in tests/blocks/oracles how many parameters {type(part).__name__} has")


@singledispatch
def receptive_field(part: nn.Module) -> ReceptiveField | None:
    """How far a mixer or channel mixer looks; None, as of those without an answer of their own: over the whole map."""
    return None


@singledispatch
def mirror_image(part: nn.Module, axis: int) -> dict[str, Tensor] | None:
    """The tensors, by name, with which a part computes the map mirrored along ``axis``; None where there are none.

    Asked of every module inside a part; those without an answer of their own keep their tensors, and convolutions are
    flipped by who asks.
    """
    return {}


def macs_of(parts: Iterable[nn.Module], sizes: Iterable[Any]) -> int:
    """Multiply-adds of several parts, each at what stands at its place in ``sizes``."""
    return sum(macs(part, size) for part, size in zip(parts, sizes, strict=True))


def parameters_of(*parts: Iterable[nn.Module]) -> int:
    """Parameters of the parts of all these lists."""
    return sum(parameter_count(part) for some in parts for part in some)
