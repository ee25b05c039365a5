"""Mixers of linear maps over positions."""

from __future__ import annotations

from math import lcm, prod

import torch
from torch import Tensor

from medsearch.blocks.mixers.axial_shift import AxialShift
from medsearch.blocks.mixers.block_gmlp import BlockGmlp
from medsearch.blocks.mixers.block_mlp import BlockMlp
from medsearch.blocks.mixers.channel_attention_block import ChannelAttentionBlock
from medsearch.blocks.mixers.multi_axis_gmlp import MultiAxisGmlp
from medsearch.blocks.mixers.multi_window_gmlp import MultiWindowGmlp
from medsearch.blocks.positions_mlp import PositionGmlp
from oracles.questions import ReceptiveField, Size, macs, mirror_image, parameter_count, receptive_field


def _padded_positions(size: Size, edges: Size) -> int:
    """Positions of a map of this size once every axis is a multiple of ``edges``."""
    return prod(length + -length % edge for length, edge in zip(size, edges, strict=True))


def _mirrored_order(edges: Size, axis: int) -> Tensor:
    """(T): where each position of a set lies when it is seen in a mirror along ``axis``."""
    return torch.arange(prod(edges)).reshape(edges).flip(axis).flatten()


@macs.register
def _(part: AxialShift, size: Size) -> int:
    return (len(part.axes) + 2) * part.project.in_channels**2 * prod(size)


@parameter_count.register
def _(part: AxialShift) -> int:
    dim = part.project.in_channels
    return (len(part.axes) + 2) * dim * (dim + 1) + 6 * dim


@mirror_image.register
def _(part: AxialShift, axis: int) -> None:
    """No weights can: a channel moves by the same distance along every axis, and a mirror turns only one."""
    return None


@receptive_field.register
def _(part: BlockGmlp) -> ReceptiveField:
    """The far corner of a block."""
    return ReceptiveField(max(part.edges) - 1, lcm(*part.edges))


@macs.register
def _(part: BlockMlp, size: Size) -> int:
    return 2 * part.expand.out_channels * part.norm.weight.numel() * _padded_positions(size, part.edges)


@parameter_count.register
def _(part: BlockMlp) -> int:
    tokens, hidden = part.expand.in_channels, part.expand.out_channels
    return 2 * part.norm.weight.numel() + hidden * (2 * tokens + 1) + tokens


@receptive_field.register
def _(part: BlockMlp) -> ReceptiveField:
    """The far corner of a block."""
    return ReceptiveField(max(part.edges) - 1, lcm(*part.edges))


@mirror_image.register
def _(part: BlockMlp, axis: int) -> dict[str, Tensor]:
    """The positions of a block change places; true where the size is a multiple of the block."""
    order_T = _mirrored_order(part.edges, axis)
    mirrored = {f"project.{name}": tensor[order_T] for name, tensor in part.project.named_parameters()}
    return mirrored | {"expand.weight": part.expand.weight[:, order_T]}


@macs.register
def _(part: ChannelAttentionBlock, size: Size) -> int:
    return 2 * part.first.weight.numel() * prod(size) + 2 * part.excite.weight.numel()


@parameter_count.register
def _(part: ChannelAttentionBlock) -> int:
    dim, squeezed = part.squeeze.in_features, part.squeeze.out_features
    return dim * (2 * dim * prod(part.first.kernel_size) + 5) + squeezed * (2 * dim + 1)


@macs.register
def _(part: MultiAxisGmlp, size: Size) -> int:
    return 4 * part.project.out_features**2 * prod(size) + macs(part.grid, size) + macs(part.block, size)


@parameter_count.register
def _(part: MultiAxisGmlp) -> int:
    dim = part.project.out_features
    return dim * (4 * dim + 5) + parameter_count(part.grid) + parameter_count(part.block)


@mirror_image.register
def _(part: MultiAxisGmlp, axis: int) -> dict[str, Tensor] | None:
    """What the halves say; None where they differ, as few sizes are a multiple of both."""
    return {} if part.block.edges == part.grid.edges else None


@macs.register
def _(part: MultiWindowGmlp, size: Size) -> int:
    dim, squeezed = part.project.out_features, part.squeeze.out_features
    windows = sum(macs(window, size) for window in part.windows if isinstance(window, BlockGmlp))
    return windows + squeezed * dim * (1 + len(part.windows)) + dim**2 * prod(size)


@parameter_count.register
def _(part: MultiWindowGmlp) -> int:
    dim, squeezed = part.project.out_features, part.squeeze.out_features
    windows = sum(parameter_count(window) for window in part.windows if isinstance(window, BlockGmlp))
    return windows + squeezed * (dim + 1) + (squeezed + 1) * dim * len(part.windows) + dim * (dim + 3)


@mirror_image.register
def _(part: MultiWindowGmlp, axis: int) -> None:
    """None, as few sizes are a multiple of all windows."""
    return None


@macs.register
def _(part: PositionGmlp, size: Size) -> int:
    dim, hidden, tokens = part.expand.in_features, part.project.in_features, len(part.bias_T)
    return hidden * (3 * dim * prod(size) + tokens * _padded_positions(size, part.edges))


@parameter_count.register
def _(part: PositionGmlp) -> int:
    dim, hidden, tokens = part.expand.in_features, part.project.in_features, len(part.bias_T)
    return 3 * dim * (hidden + 1) + 4 * hidden + tokens * (tokens + 1)


@mirror_image.register
def _(part: PositionGmlp, axis: int) -> dict[str, Tensor]:
    """The positions of a set change places; true where the size is a multiple of ``edges``."""
    order_T = _mirrored_order(part.edges, axis)
    return {"mix_TT": part.mix_TT[order_T][:, order_T], "bias_T": part.bias_T[order_T]}
