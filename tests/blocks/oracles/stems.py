"""Stems and downsamplings."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from medsearch.blocks.downsamples.avg1x1 import MeanDown
from medsearch.blocks.downsamples.conv import OverlapDown, PatchDown
from medsearch.blocks.downsamples.keep_and_fuse import KeepAndFuse
from medsearch.blocks.downsamples.merge import PatchMerging
from medsearch.blocks.downsamples.none import SameSize
from medsearch.blocks.downsamples.overlap import OverlapEmbedding
from medsearch.blocks.stems.conv import ConvStem
from medsearch.blocks.stems.conv4 import FourConvStem
from medsearch.blocks.stems.overlap import OverlapStem
from medsearch.blocks.stems.patch import PatchStem
from medsearch.blocks.stems.per_channel import PerChannelStem
from medsearch.blocks.strides import shrunk
from oracles.questions import Size, macs, mirror_image, parameter_count


@macs.register
def _(part: MeanDown, size: Size) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return prod(part.scale(size)) * in_dim * dim


@parameter_count.register
def _(part: MeanDown) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return (in_dim + 2) * dim


@macs.register
def _(part: OverlapDown, size: Size) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return prod(part.scale(size)) * 3 ** len(size) * in_dim * dim


@parameter_count.register
def _(part: OverlapDown) -> int:
    dim, in_dim, bias = part.reduce.out_channels, part.reduce.in_channels, part.reduce.bias is not None
    return (3 ** len(part.stride) * in_dim + bias + 2 * part.normed) * dim


@macs.register
def _(part: PatchDown, size: Size) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return prod(part.scale(size)) * prod(part.window) * in_dim * dim


@parameter_count.register
def _(part: PatchDown) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return (prod(part.window) * in_dim + 1) * dim + 2 * part.normed


def _projected(part: KeepAndFuse) -> int:
    """Channels that a layer makes; none where as many come in as go out."""
    return 0 if isinstance(part.project, nn.Identity) else part.project.out_features


@macs.register
def _(part: KeepAndFuse, size: Size) -> int:
    tokens, kept = prod(size), part._kept(prod(size))
    weighed = part.in_dim * (2 * tokens - kept) if kept < tokens else 0
    return weighed + prod(part.scale(size)) * part.in_dim * _projected(part)


@parameter_count.register
def _(part: KeepAndFuse) -> int:
    return (part.in_dim + 1) * _projected(part)


@mirror_image.register
def _(part: KeepAndFuse, axis: int) -> None:
    """What goes on stays in order, which a mirror reverses."""
    return None


@macs.register
def _(part: PatchMerging, size: Size) -> int:
    return prod(part.scale(size)) * part.merged * part.reduce.out_features


@parameter_count.register
def _(part: PatchMerging) -> int:
    return part.merged * (part.reduce.out_features + 2)


@mirror_image.register
def _(part: PatchMerging, axis: int) -> dict[str, Tensor]:
    """What belongs to the neighbours of a window, in the opposite order along ``axis``."""
    first = -len(part.window) - 1
    tensors = {"norm.weight": part.norm.weight, "norm.bias": part.norm.bias, "reduce.weight": part.reduce.weight}
    return {
        name: tensor.unflatten(-1, (*part.window, -1)).flip(first + axis).flatten(first)
        for name, tensor in tensors.items()
    }


@macs.register
def _(part: SameSize, size: Size) -> int:
    conv = part.project
    return 0 if isinstance(conv, nn.Identity) else prod(size) * conv.in_channels * conv.out_channels


@parameter_count.register
def _(part: SameSize) -> int:
    conv = part.project
    return 0 if isinstance(conv, nn.Identity) else (conv.in_channels + 1) * conv.out_channels


@macs.register
def _(part: OverlapEmbedding, size: Size) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return prod(part.scale(size)) * prod(part.window) * in_dim * dim


@parameter_count.register
def _(part: OverlapEmbedding) -> int:
    dim, in_dim = part.reduce.out_channels, part.reduce.in_channels
    return (prod(part.window) * in_dim + 3) * dim


@macs.register
def _(part: ConvStem, size: Size) -> int:
    total = 0
    for source, target, step in zip(part.widths, part.widths[1:], part.steps, strict=False):
        size = shrunk(size, step)
        total += prod(size) * 3 ** len(size) * source * target
    return total


@parameter_count.register
def _(part: ConvStem) -> int:
    window, targets, bias = 3 ** len(part.steps[0]), part.widths[1:], part.layers[0].bias is not None
    filters = sum(window * source * target for source, target in zip(part.widths, targets, strict=False))
    return filters + (bias + 2 * part.normed) * sum(targets) + 2 * targets[-1] * part.normed_last


@macs.register
def _(part: FourConvStem, size: Size) -> int:
    total = 0
    for source, target, kernel, step in part.convs:
        size = shrunk(size, step)
        total += prod(size) * kernel ** len(size) * source * target
    return total


@parameter_count.register
def _(part: FourConvStem) -> int:
    dims = len(part.first)
    return sum((kernel**dims * source + 2) * target for source, target, kernel, _ in part.convs)


@macs.register
def _(part: OverlapStem, size: Size) -> int:
    dim, in_channels = part.embed.out_channels, part.embed.in_channels
    return prod(part.scale(size)) * prod(part.window) * in_channels * dim


@parameter_count.register
def _(part: OverlapStem) -> int:
    dim, in_channels = part.embed.out_channels, part.embed.in_channels
    return (prod(part.window) * in_channels + 3) * dim


@macs.register
def _(part: PatchStem, size: Size) -> int:
    dim, in_channels = part.embed.out_channels, part.embed.in_channels
    return prod(part.scale(size)) * prod(part.window) * in_channels * dim


@parameter_count.register
def _(part: PatchStem) -> int:
    dim, in_channels = part.embed.out_channels, part.embed.in_channels
    table = prod(part.grid) * dim if part.grid else 0
    return (prod(part.window) * in_channels + 1 + 2 * part.normed) * dim + table


@mirror_image.register
def _(part: PatchStem, axis: int) -> dict[str, Tensor]:
    """The table, from its other end."""
    return {} if part.position is None else {"position": part.position.flip(2 + axis)}


@macs.register
def _(part: PerChannelStem, size: Size) -> int:
    return prod(part.scale(size)) * len(part.channel_KC) * part.dim * (prod(part.window) + 2)


@parameter_count.register
def _(part: PerChannelStem) -> int:
    return (prod(part.window) + 1 + len(part.channel_KC) + 1 + 2) * part.dim
