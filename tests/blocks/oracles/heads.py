"""Heads, and the modules that they are made of."""

from __future__ import annotations

from math import prod

from torch import nn

from medsearch.blocks.heads.add_gate import AddGateHead, Gate
from medsearch.blocks.heads.allmlp import AllMLPHead
from medsearch.blocks.heads.classify import ClassifyHead
from medsearch.blocks.heads.csff import CSFFHead, Fusion
from medsearch.blocks.heads.mask_token import Attention, MaskTokenHead, TwoWayBlock
from medsearch.blocks.heads.mff import Branches, MFFHead, ResidualConv
from medsearch.blocks.heads.mirror_unetr import MirrorUNETRHead, ResidualConvs
from medsearch.blocks.heads.mirrored_add_gate import MirroredAddGateHead
from medsearch.blocks.heads.mla import Climb, MLAHead
from medsearch.blocks.heads.pyramid import PyramidHead
from medsearch.blocks.heads.steps import Up, doubled
from medsearch.blocks.heads.unet import UNetHead
from medsearch.blocks.heads.uper import Pool, UPerHead
from oracles.questions import Size, Sizes, macs, macs_of, parameter_count, parameters_of

Conv = nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d


def _widths(conv: Conv) -> tuple[int, int]:
    """Channels in and out."""
    return conv.in_channels, conv.out_channels


def _taps(conv: Conv) -> int:
    """Positions of the kernel."""
    return prod(conv.kernel_size)


@macs.register
def _(part: nn.Sequential, size: Size) -> int:
    """The blocks that a head mirrors, which keep the size."""
    return sum(macs(inner, size) for inner in part)


@parameter_count.register
def _(part: nn.Sequential) -> int:
    return parameters_of(part)


@macs.register
def _(part: Gate, size: Size) -> int:
    return prod(size) * 2 * prod(_widths(part.channel[0])) * (1 + _taps(part.spatial[0]))


@parameter_count.register
def _(part: Gate) -> int:
    dim, hidden = _widths(part.channel[0])
    return 2 * dim * hidden * (1 + _taps(part.spatial[0])) + 4 * (dim + hidden)


@macs.register
def _(part: AddGateHead, sizes: Sizes) -> int:
    total = prod(sizes[0]) * prod(_widths(part.predict)) + macs_of(part.gates, sizes[:-2])
    for reduce, size in zip(part.reduces, sizes[1:-1], strict=True):
        total += prod(size) * prod(_widths(reduce))
    return total


@parameter_count.register
def _(part: AddGateHead) -> int:
    reduces = sum((coarse + 3) * fine for coarse, fine in map(_widths, part.reduces))
    return prod(_widths(part.predict)) + reduces + parameters_of(part.gates)


@macs.register
def _(part: AllMLPHead, sizes: Sizes) -> int:
    dim, outputs = _widths(part.predict)
    total = prod(sizes[0]) * dim * outputs
    for linear, size in zip(part.linears, sizes[:-1], strict=True):
        total += prod(size) * (linear.in_features + dim) * dim
    return total


@parameter_count.register
def _(part: AllMLPHead) -> int:
    dim, outputs = _widths(part.predict)
    norm = 2 * isinstance(part.norms[0], nn.LayerNorm)
    levels = sum((linear.in_features + 1 + dim + norm) * dim for linear in part.linears)
    return levels + 2 * dim + (dim + 1) * outputs


@macs.register
def _(part: ClassifyHead, sizes: Sizes) -> int:
    width, outputs = part.linear.in_features, part.linear.out_features
    return width * outputs


@parameter_count.register
def _(part: ClassifyHead) -> int:
    width, outputs = part.linear.in_features, part.linear.out_features
    return (0 if part.placed == "none" else 2 * width) + (width + 1) * outputs


@macs.register
def _(part: Fusion, size: Size) -> int:
    dim, hidden = part.mix.mix.out_channels, part.channel[0].out_features
    per_position = 2 * _taps(part.spatial) + 2 * dim * (3 ** len(size) + dim)
    return 4 * dim * hidden + prod(size) * per_position


@parameter_count.register
def _(part: Fusion) -> int:
    dim, hidden = part.mix.mix.out_channels, part.channel[0].out_features
    gates = (4 * dim + 1) * hidden + 2 * dim + 2 * _taps(part.spatial) + 1
    return gates + 2 * dim * (_taps(part.mix.filters) + dim + 1)


@macs.register
def _(part: CSFFHead, sizes: Sizes) -> int:
    levels = macs_of(part.ups, sizes[1:-1]) + macs_of(part.fusions, sizes[:-2])
    return levels + prod(sizes[0]) * prod(_widths(part.predict))


@parameter_count.register
def _(part: CSFFHead) -> int:
    width, outputs = _widths(part.predict)
    return parameters_of(part.ups, part.fusions) + (width + 1) * outputs


@macs.register
def _(part: Attention, asking: int, asked: int) -> int:
    dim, inner = part.q.in_features, part.q.out_features
    return 2 * inner * (dim * (asking + asked) + asking * asked)


@parameter_count.register
def _(part: Attention) -> int:
    dim, inner = part.q.in_features, part.q.out_features
    return 4 * dim * inner + 3 * inner + dim


@macs.register
def _(part: TwoWayBlock, counts: tuple[int, int]) -> int:
    """``counts``: of tokens and of positions."""
    dim = part.mlp[0].in_features
    tokens, positions = counts
    attention = macs(part.own, tokens, tokens) + macs(part.look, tokens, positions)
    return attention + macs(part.tell, positions, tokens) + 2 * tokens * dim**2


@parameter_count.register
def _(part: TwoWayBlock) -> int:
    dim = part.mlp[0].in_features
    return parameters_of((part.own, part.look, part.tell)) + 2 * (dim + 1) * dim + 8 * dim


@macs.register
def _(part: MaskTokenHead, sizes: Sizes) -> int:
    (width, dim), outputs = _widths(part.neck[0]), len(part.hyper)
    last, image = sizes[-2:]
    twice, counts = doubled(last, image), (part.registers + outputs, prod(last))
    total = prod(last) * (width + _taps(part.neck[2]) * dim) * dim + macs_of(part.ups, (last, twice))
    total += macs_of(part.blocks, [counts] * len(part.blocks)) + macs(part.look, *counts)
    return total + outputs * dim * (17 * dim + prod(doubled(twice, image))) // 8


@parameter_count.register
def _(part: MaskTokenHead) -> int:
    (width, dim), outputs = _widths(part.neck[0]), len(part.hyper)
    fixed = (width + _taps(part.neck[2]) * dim + part.registers + outputs) * dim + 6 * dim + dim // 2
    return fixed + parameters_of(part.blocks, (part.look,), part.ups) + outputs * (dim + 1) * 17 * dim // 8


@macs.register
def _(part: ResidualConv, size: Size) -> int:
    dim, out = _widths(part.conv)
    return prod(size) * ((3 ** len(size) + 1) * dim + out) * out


@parameter_count.register
def _(part: ResidualConv) -> int:
    dim, out = _widths(part.conv)
    return ((_taps(part.conv) + 1) * dim + out + 4) * out


def _branch_widths(part: Branches) -> tuple[int, int, int]:
    """Channels, hidden width of the choices, and experts."""
    return part.branch[0].in_features, part.branch[0].out_features, part.expert[2].out_features


@macs.register
def _(part: Branches, size: Size) -> int:
    dim, hidden, experts, branches = *_branch_widths(part), 3
    chosen = hidden * (2 * dim + branches + experts) + branches * dim * (3 + experts * dim)
    return chosen + prod(size) * branches * dim * (3 ** len(size) * experts + 2 * dim)


@parameter_count.register
def _(part: Branches) -> int:
    dim, hidden, experts, branches = *_branch_widths(part), 3
    chosen = 2 * (dim + 1) * hidden + (hidden + 1) * (branches + experts) + 3
    filters = _taps(part.mixtures[0].filters)
    return chosen + branches * dim * (experts * (filters + dim) + 2 + dim) + 2 * dim


@macs.register
def _(part: MFFHead, sizes: Sizes) -> int:
    finer = sizes[:-2]
    levels = macs_of(part.ups, sizes[1:-1]) + macs_of(part.joins, finer) + macs_of(part.branches, finer)
    return levels + prod(sizes[0]) * prod(_widths(part.predict))


@parameter_count.register
def _(part: MFFHead) -> int:
    width, outputs = _widths(part.predict)
    levels = parameters_of(part.ups, part.joins, part.branches) + 2 * sum(norm.num_features for norm in part.norms)
    return levels + (width + 1) * outputs


@macs.register
def _(part: ResidualConvs, size: Size) -> int:
    dim, out = _widths(part.body[0])
    skip = dim if dim != out else 0
    return prod(size) * (3 ** len(size) * (dim + out) + skip) * out


@parameter_count.register
def _(part: ResidualConvs) -> int:
    dim, out = _widths(part.body[0])
    skip = dim + 3 if dim != out else 0
    return (_taps(part.body[0]) * (dim + out) + 6 + skip) * out


@macs.register
def _(part: MirrorUNETRHead, sizes: Sizes) -> int:
    *levels, _ = sizes
    total = macs_of(part.skips, levels) + macs_of(part.ups, levels[1:]) + macs_of(part.joins, levels[:-1])
    return total + prod(levels[0]) * _taps(part.predict) * prod(_widths(part.predict))


@parameter_count.register
def _(part: MirrorUNETRHead) -> int:
    width, outputs = _widths(part.predict)
    return parameters_of(part.skips, part.ups, part.joins) + (_taps(part.predict) * width + 1) * outputs


@macs.register
def _(part: MirroredAddGateHead, sizes: Sizes) -> int:
    mirrors = zip(part.mirrors, sizes, strict=False)
    return macs.dispatch(AddGateHead)(part, sizes) + sum(macs(mirror, size) for mirror, size in mirrors)


@parameter_count.register
def _(part: MirroredAddGateHead) -> int:
    return parameter_count.dispatch(AddGateHead)(part) + parameters_of(part.mirrors)


@macs.register
def _(part: Climb, sizes: Sizes) -> int:
    """``sizes`` as in forward; a convolution runs at the size that it finds."""
    found = [sizes[0], *sizes]
    return sum(prod(size) * a * b for size, (a, b) in zip(found, map(_widths, part.convs), strict=False))


@parameter_count.register
def _(part: Climb) -> int:
    return sum(a * b + 2 * b for a, b in map(_widths, part.convs))


@macs.register
def _(part: MLAHead, sizes: Sizes) -> int:
    *levels, image = sizes
    dim, taps, outputs = part.refines[0][0][0].in_channels, _taps(part.predict), part.predict.out_channels
    ways = [levels[level::-1] for level in range(1, len(levels))]
    total = macs(part.lateral, levels[:1]) + macs_of(part.climbs, ways)
    total += len(levels) * prod(levels[0]) * 2 * taps * dim**2
    return total + prod(doubled(levels[0], image)) * taps * len(levels) * dim * outputs


@parameter_count.register
def _(part: MLAHead) -> int:
    levels, dim, taps = len(part.refines), part.refines[0][0][0].in_channels, _taps(part.predict)
    total = parameter_count(part.lateral) + parameters_of(part.climbs)
    total += levels * (2 * taps * dim + 4) * dim
    return total + (taps * levels * dim + 1) * part.predict.out_channels


@macs.register
def _(part: PyramidHead, sizes: Sizes) -> int:
    *levels, image = sizes
    (dim, detail), (channels, _) = _widths(part.squeeze), _widths(part.image)
    taps = _taps(part.image)
    total = prod(levels[0]) * dim * detail
    for lateral, size in zip(part.laterals, levels, strict=True):
        total += prod(size) * (lateral.in_channels + taps + dim) * dim
    return total + prod(image) * (taps * (channels + 2 * detail) + part.predict.out_channels) * detail


@parameter_count.register
def _(part: PyramidHead) -> int:
    (dim, detail), (channels, _) = _widths(part.squeeze), _widths(part.image)
    taps, outputs = _taps(part.image), part.predict.out_channels
    levels = sum((lateral.in_channels + 3 + taps + dim) * dim for lateral in part.laterals)
    full = taps * (channels + 2 * detail) + 3 + outputs
    return levels + (dim + 1 + full) * detail + outputs


@macs.register
def _(part: Up, size: Size) -> int:
    return prod(size) * prod(_widths(part.conv)) * _taps(part.conv)


@parameter_count.register
def _(part: Up) -> int:
    dim, out = _widths(part.conv)
    return (dim * _taps(part.conv) + 1) * out


@macs.register
def _(part: UNetHead, sizes: Sizes) -> int:
    total = prod(sizes[0]) * prod(_widths(part.predict)) + macs_of(part.ups, sizes[1:-1])
    for block, size in zip(part.blocks, sizes[:-2], strict=True):
        joined, dim = _widths(block[0])
        total += prod(size) * 3 ** len(size) * (joined + dim) * dim
    return total


@parameter_count.register
def _(part: UNetHead) -> int:
    width, outputs = _widths(part.predict)
    total = (width + 1) * outputs + parameters_of(part.ups)
    for block in part.blocks:
        joined, dim = _widths(block[0])
        total += _taps(block[0]) * (joined + dim) * dim + 4 * dim
    return total


@macs.register
def _(part: Pool, size: Size) -> int:
    dim, out = _widths(part.step[0])
    axes = sum(part.grid ** (axis + 1) * prod(size[axis:]) for axis in range(len(size)))
    return dim * (axes + part.grid ** len(size) * out)


def _uper_widths(part: UPerHead) -> list[int]:
    """Channels of all stages, fine to coarse, and those that they are brought to."""
    stages = (*(lateral[0] for lateral in part.laterals), part.pools[0].step[0])
    return [*(conv.in_channels for conv in stages), part.predict.in_channels]


@macs.register
def _(part: UPerHead, sizes: Sizes) -> int:
    *levels, _ = sizes
    *finer, coarsest, dim = _uper_widths(part)
    last, grids, taps = levels[-1], len(part.pools), 3 ** len(levels[0])
    total = prod(last) * taps * (coarsest + grids * dim) * dim
    total += macs_of(part.pools, [last] * grids)
    for width, size in zip(finer, levels[:-1], strict=True):
        total += prod(size) * (width + taps * dim) * dim
    return total + prod(levels[0]) * (taps * len(levels) * dim + part.predict.out_channels) * dim


@parameter_count.register
def _(part: UPerHead) -> int:
    *finer, coarsest, dim = _uper_widths(part)
    grids, taps, levels = len(part.pools), _taps(part.fuse[0]), len(finer) + 1
    rest = 2 if part.fuse[0].bias is None else 1  # what a convolution has per output besides its kernel
    context = grids * coarsest + taps * (coarsest + grids * dim)
    pyramid = sum(finer) + taps * dim * (2 * levels - 1)
    convs = grids + 2 * levels
    return (context + pyramid + convs * rest) * dim + (dim + 1) * part.predict.out_channels
