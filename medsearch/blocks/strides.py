"""What stems and downsamplings have in common: the size that a stride leaves, convolutions with one, norms of a map.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medsearch.blocks.nd import BATCH_NORM, CONV, to_first, to_last


def shrunk(size: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """The size that is left where every axis gives one position for ``stride`` of them, a last rest included."""
    return tuple(-(-length // step) for length, step in zip(size, stride, strict=True))


def covering_kernel(part: str, kernel: tuple[int, ...], stride: tuple[int, ...], value: int | str) -> tuple[int, ...]:
    """``kernel`` itself, refused as ``value`` unless each edge is odd and no smaller than the step between windows."""
    if any(edge % 2 == 0 or edge < step for edge, step in zip(kernel, stride, strict=True)):
        fits = "x".join(str(max(edge, step) | 1) for edge, step in zip(kernel, stride, strict=True))
        near = fits if isinstance(value, int) and len(set(fits.split("x"))) > 1 else fits.split("x")[0]
        near = repr(fits) if isinstance(value, str) else near
        raise ValueError(f"{part}: kernel must be odd and no smaller than its stride, got {value!r}; try {near}")
    return kernel


def patch_conv(source: int, target: int, window: tuple[int, ...]) -> nn.Conv2d | nn.Conv3d:
    """A linear map of windows side by side."""
    conv: Any = CONV[len(window)]
    return conv(source, target, window, stride=window)


def overlap_conv(
    source: int, target: int, kernel: tuple[int, ...], stride: tuple[int, ...], *, bias: bool = True
) -> nn.Conv2d | nn.Conv3d:
    """A convolution with odd windows around every ``stride``-th position, the first ones included."""
    conv: Any = CONV[len(kernel)]
    return conv(source, target, kernel, stride=stride, padding=tuple(edge // 2 for edge in kernel), bias=bias)


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of every position of (B, C, *S)."""

    def forward(self, x_BCS: Tensor) -> Tensor:
        return to_first(super().forward(to_last(x_BCS)))


def map_norm(kind: str, width: int, dims: int) -> nn.Module:
    """The norm of a map that ``kind`` names: ``"batch"``, ``"layer"`` or ``"none"``."""
    if kind == "none":
        return nn.Identity()
    return BATCH_NORM[dims](width) if kind == "batch" else MapNorm(width)
