"""One path for 2D and 3D: convolutions, norms and layout changes by number of spatial axes.

Shapes: B batch, C channels, S the spatial axes (H W or D H W), N their product, T tokens of a window.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks.depthwise import WINDOW, depthwise_by_pieces
from medsearch.blocks.knobs import whole_number

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


def real_tokens(size: tuple[int, ...], window: tuple[int, ...], like: Tensor) -> Tensor:
    """(blocks, T), 1 where a token of a padded map is a position of ``size`` and 0 where it is padding."""
    ones_BSC = torch.ones(1, *size, 1, dtype=like.dtype, device=like.device)
    return split_blocks(pad_to_multiple(ones_BSC, window), window)[0, :, :, 0]


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
    """Apply a depthwise convolution; on the CPU in a way whose weight gradient is fast.

    oneDNN has a fast one for small 2D windows; those of larger ones are put together from these
    (:mod:`medsearch.blocks.depthwise`).  All others run in the weights' own precision: their half-precision weight
    gradient takes longer than the rest of the network, and nothing is fast in float16; bfloat16 without that gradient
    is mostly faster.
    """
    plain = x_BCS.ndim == 4 and max(filters.dilation) == 1
    if x_BCS.device.type != "cpu" or (plain and max(filters.kernel_size) <= WINDOW):
        return filters(x_BCS)
    learns = torch.is_grad_enabled() and filters.weight.requires_grad
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not learns and half:
        return filters(x_BCS)
    one = filters.groups == filters.in_channels == filters.out_channels
    if learns and plain and one and min(filters.kernel_size) >= WINDOW and max(filters.stride) == 1:
        return _learning(filters, x_BCS, torch.bfloat16 if half else filters.weight.dtype)
    with without_autocast(x_BCS.device):
        return filters(x_BCS.to(filters.weight.dtype))


def _learning(filters: nn.Conv2d | nn.Conv3d, x_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
    """A depthwise 2D convolution whose weight gradient is wanted."""
    padding = (int(filters.padding[0]), int(filters.padding[1]))
    with without_autocast(x_BCHW.device):
        y_BCHW = depthwise_by_pieces(x_BCHW.to(dtype), filters.weight.to(dtype), padding)
        return y_BCHW if filters.bias is None else y_BCHW + filters.bias.to(dtype)[:, None, None]
