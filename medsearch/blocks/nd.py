"""One path for 2D and 3D: convolutions, norms and layout changes by number of spatial axes.

Shapes: B batch, C channels, S the spatial axes (H W or D H W), N their product, T tokens of a window.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def to_last(x_BCS: Tensor) -> Tensor:
    """(B, C, *S) -> (B, *S, C): a view that is contiguous when x is in a channels-last memory format."""
    return x_BCS.movedim(1, x_BCS.dim() - 1)


def to_first(x_BSC: Tensor) -> Tensor:
    """(B, *S, C) -> (B, C, *S): the inverse view of :func:`to_last`."""
    return x_BSC.movedim(x_BSC.dim() - 1, 1)


def pad_to_multiple(x_BSC: Tensor, window: tuple[int, ...]) -> Tensor:
    """Zero-pad the end of every spatial axis of (B, *S, C) up to a multiple of ``window``."""
    short = [-size % w for size, w in zip(x_BSC.shape[1:-1], window, strict=True)]
    if not any(short):
        return x_BSC
    pads = [0, 0]
    for missing in reversed(short):
        pads += [0, missing]
    return F.pad(x_BSC, pads)


def crop_to(x_BSC: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cut (B, *S, C) back to spatial ``size``: undoes :func:`pad_to_multiple`."""
    for axis, length in enumerate(size, start=1):
        x_BSC = x_BSC.narrow(axis, 0, length)
    return x_BSC


def split_blocks(x_BSC: Tensor, window: tuple[int, ...]) -> Tensor:
    """(B, *S, C) -> (B, blocks, T, C): neighbouring positions of a window lie together; S must be multiples of it."""
    batch, *size, channels = x_BSC.shape
    dims = len(window)
    shape = [batch]
    for length, w in zip(size, window, strict=True):
        shape += [length // w, w]
    order = [0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    tokens = 1
    for w in window:
        tokens *= w
    return x_BSC.reshape(*shape, channels).permute(order).reshape(batch, -1, tokens, channels)


def join_blocks(x_BGTC: Tensor, window: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """(B, blocks, T, C) -> (B, *size, C): the inverse of :func:`split_blocks`."""
    batch, channels = x_BGTC.shape[0], x_BGTC.shape[-1]
    dims = len(window)
    grid = [length // w for length, w in zip(size, window, strict=True)]
    order = [0]
    for axis in range(dims):
        order += [1 + axis, 1 + dims + axis]
    return x_BGTC.reshape(batch, *grid, *window, channels).permute(*order, 2 * dims + 1).reshape(batch, *size, channels)


def rows_of_blocks(x_BSC: Tensor, block: tuple[int, ...]) -> Tensor:
    """(B, *S, C) -> (T, B * blocks * C): row t is position t of every block; S must be multiples of ``block``."""
    batch, *size, channels = x_BSC.shape
    dims = len(block)
    shape = [batch]
    for length, edge in zip(size, block, strict=True):
        shape += [length // edge, edge]
    order = [*range(2, 2 * dims + 1, 2), 0, *range(1, 2 * dims, 2), 2 * dims + 1]
    return x_BSC.reshape(*shape, channels).permute(order).reshape(math.prod(block), -1)


def blocks_of_rows(x_TM: Tensor, block: tuple[int, ...], size: tuple[int, ...], channels: int) -> Tensor:
    """(T, B * blocks * C) -> (B, *size, C): the inverse of :func:`rows_of_blocks`."""
    dims = len(block)
    blocks = [length // edge for length, edge in zip(size, block, strict=True)]
    order = [dims]
    for axis in range(dims):
        order += [dims + 1 + axis, axis]
    return x_TM.reshape(*block, -1, *blocks, channels).permute(*order, 2 * dims + 1).reshape(-1, *size, channels)


def rows_of_grid(x_BSC: Tensor, grid: tuple[int, ...]) -> Tensor:
    """(B, *S, C) -> (T, B * offsets * C): row t is cell t at each offset in it; S must be multiples of ``grid``."""
    batch, *size, channels = x_BSC.shape
    dims = len(grid)
    shape = [batch]
    for length, cells in zip(size, grid, strict=True):
        shape += [cells, length // cells]
    order = [*range(1, 2 * dims, 2), 0, *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return x_BSC.reshape(*shape, channels).permute(order).reshape(math.prod(grid), -1)


def grid_of_rows(x_TM: Tensor, grid: tuple[int, ...], size: tuple[int, ...], channels: int) -> Tensor:
    """(T, B * offsets * C) -> (B, *size, C): the inverse of :func:`rows_of_grid`."""
    dims = len(grid)
    cell = [length // cells for length, cells in zip(size, grid, strict=True)]
    order = [dims]
    for axis in range(dims):
        order += [axis, dims + 1 + axis]
    return x_TM.reshape(*grid, -1, *cell, channels).permute(*order, 2 * dims + 1).reshape(-1, *size, channels)


def hidden_width(part: str, dim: int, ratio: float, hidden: int | None) -> int:
    """The hidden width of a channel mixer: ``hidden`` itself, or ``ratio`` times ``dim`` rounded; at least 1."""
    number = isinstance(ratio, int | float) and math.isfinite(ratio)
    width = (round(dim * ratio) if number else 0) if hidden is None else hidden
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        seen = f"ratio {ratio!r}, hidden {hidden!r}"
        raise ValueError(f"{part}: hidden width must be at least 1, got {seen}; try ratio 2.0")
    return width


def real_tokens(size: tuple[int, ...], window: tuple[int, ...], like: Tensor) -> Tensor:
    """(blocks, T), 1 where a token of a padded map is a position of ``size`` and 0 where it is padding."""
    ones_BSC = torch.ones(1, *size, 1, dtype=like.dtype, device=like.device)
    return split_blocks(pad_to_multiple(ones_BSC, window), window)[0, :, :, 0]


def whole_number(part: str, knob: str, value: int, *, least: int = 1) -> int:
    """``value`` itself, refused with the part's and the knob's name unless it is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{part}: {knob} must be a whole number of at least {least}, got {value!r}; try {least}")
    return value


def per_axis(part: str, knob: str, value: int | str, dims: int, *, least: int = 1) -> tuple[int, ...]:
    """One whole number for every axis: from a number for all of them, or from text like ``"1x2x2"``."""
    if isinstance(value, str):
        numbers = [int(piece) if piece.isdecimal() else None for piece in value.split("x")]
        if len(numbers) != dims or any(number is None or number < least for number in numbers):
            example = "x".join([str(max(least, 2))] * dims)
            raise ValueError(
                f"{part}: {knob} must be {dims} whole numbers of at least {least}, got {value!r}; try '{example}'"
            )
        return tuple(number for number in numbers if number is not None)
    return (whole_number(part, knob, value, least=least),) * dims


def odd_kernel(part: str, kernel: int) -> int:
    """``kernel`` itself, refused with the part's name unless it is odd and positive, so that a map keeps its size."""
    whole_number(part, "kernel", kernel)
    if kernel % 2 == 0:
        raise ValueError(f"{part}: kernel must be odd to keep the size, got {kernel}; try {kernel + 1}")
    return kernel


HEAD_DIM = 32
"""Width of a head where neither it nor the number of heads is given."""


def head_shape(part: str, dim: int, heads: int | None, head_dim: int | None) -> tuple[int, int]:
    """Heads and their width.

    A width alone gives as many heads as fit in ``dim``, at least one; a number of heads alone divides ``dim`` among
    them; both stay as written.
    """
    if heads is not None and head_dim is None:
        whole_number(part, "heads", heads)
        if dim % heads:
            nearest = min((n for n in range(1, dim + 1) if dim % n == 0), key=lambda n: abs(n - heads))
            raise ValueError(f"{part}: heads must divide the width {dim}, got {heads}; try {nearest}")
        return heads, dim // heads
    head_dim = whole_number(part, "head_dim", HEAD_DIM if head_dim is None else head_dim)
    if heads is None:
        head_dim = min(head_dim, dim)
        return dim // head_dim, head_dim
    return whole_number(part, "heads", heads), head_dim


def local_filter(part: str, width: int, dims: int, kernel: int) -> nn.Conv2d | nn.Conv3d | None:
    """A depthwise convolution that tells neighbours apart; None for kernel 0."""
    if kernel == 0:
        return None
    if whole_number(part, "local", kernel, least=0) % 2 == 0:
        raise ValueError(f"{part}: local must be odd, or 0 for none, got {kernel}; try {kernel + 1}")
    return CONV[dims](width, width, kernel, padding=kernel // 2, groups=width)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Products inside keep the type of their inputs, also where the caller runs in mixed precision."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def depthwise(filters: nn.Conv2d | nn.Conv3d, x_BCS: Tensor) -> Tensor:
    """Apply a depthwise convolution; on the CPU, all but small 2D windows run in the weights' own precision.

    There oneDNN has no fast half-precision weight gradient for them, which takes longer than the rest of the network,
    and nothing fast in float16; bfloat16 without that gradient is mostly faster.
    """
    small = x_BCS.ndim == 4 and max(filters.kernel_size) <= 3 and max(filters.dilation) == 1
    if x_BCS.device.type != "cpu" or small:
        return filters(x_BCS)
    learns = torch.is_grad_enabled() and filters.weight.requires_grad
    if not learns and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        return filters(x_BCS)
    with without_autocast(x_BCS.device):
        return filters(x_BCS.to(filters.weight.dtype))
