"""Heads, and the modules that they are made of."""

from __future__ import annotations

from itertools import pairwise
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


@macs.register
def _(part: nn.Sequential, size: Size) -> int:
    """The blocks that a head mirrors, which keep the size."""
    return sum(macs(inner, size) for inner in part)


@parameter_count.register
def _(part: nn.Sequential) -> int:
    return parameters_of(part)


@macs.register
def _(part: Gate, size: Size) -> int:
    return prod(size) * 2 * part.dim * part.hidden * (1 + part.taps)


@parameter_count.register
def _(part: Gate) -> int:
    return 2 * part.dim * part.hidden * (1 + part.taps) + 4 * (part.dim + part.hidden)


@macs.register
def _(part: AddGateHead, sizes: Sizes) -> int:
    total = prod(sizes[0]) * part.widths[0] * part.outputs + macs_of(part.gates, sizes[:-2])
    for level, size in enumerate(sizes[1:-1]):
        total += prod(size) * part.widths[level + 1] * part.widths[level]
    return total


@parameter_count.register
def _(part: AddGateHead) -> int:
    reduces = sum((coarse + 3) * fine for fine, coarse in pairwise(part.widths))
    return part.widths[0] * part.outputs + reduces + parameters_of(part.gates)


@macs.register
def _(part: AllMLPHead, sizes: Sizes) -> int:
    total = prod(sizes[0]) * part.dim * part.outputs
    for width, size in zip(part.widths, sizes[:-1], strict=True):
        total += prod(size) * (width + part.dim) * part.dim
    return total


@parameter_count.register
def _(part: AllMLPHead) -> int:
    levels = sum((width + 1 + part.dim + 2 * part.normed) * part.dim for width in part.widths)
    return levels + 2 * part.dim + (part.dim + 1) * part.outputs


@macs.register
def _(part: ClassifyHead, sizes: Sizes) -> int:
    return part.width * part.outputs


@parameter_count.register
def _(part: ClassifyHead) -> int:
    return (0 if part.placed == "none" else 2 * part.width) + (part.width + 1) * part.outputs


@macs.register
def _(part: Fusion, size: Size) -> int:
    per_position = 2 * part.window + 2 * part.dim * (part.taps + part.dim)
    return 4 * part.dim * part.hidden + prod(size) * per_position


@parameter_count.register
def _(part: Fusion) -> int:
    gates = (4 * part.dim + 1) * part.hidden + 2 * part.dim + 2 * part.window + 1
    return gates + 2 * part.dim * (part.taps + part.dim + 1)


@macs.register
def _(part: CSFFHead, sizes: Sizes) -> int:
    levels = macs_of(part.ups, sizes[1:-1]) + macs_of(part.fusions, sizes[:-2])
    return levels + prod(sizes[0]) * part.width * part.outputs


@parameter_count.register
def _(part: CSFFHead) -> int:
    return parameters_of(part.ups, part.fusions) + (part.width + 1) * part.outputs


@macs.register
def _(part: Attention, asking: int, asked: int) -> int:
    return 2 * part.inner * (part.dim * (asking + asked) + asking * asked)


@parameter_count.register
def _(part: Attention) -> int:
    return 4 * part.dim * part.inner + 3 * part.inner + part.dim


@macs.register
def _(part: TwoWayBlock, counts: tuple[int, int]) -> int:
    """``counts``: of tokens and of positions."""
    tokens, positions = counts
    attention = macs(part.own, tokens, tokens) + macs(part.look, tokens, positions)
    return attention + macs(part.tell, positions, tokens) + 2 * tokens * part.dim**2


@parameter_count.register
def _(part: TwoWayBlock) -> int:
    return parameters_of((part.own, part.look, part.tell)) + 2 * (part.dim + 1) * part.dim + 8 * part.dim


@macs.register
def _(part: MaskTokenHead, sizes: Sizes) -> int:
    last, image = sizes[-2:]
    dim, twice = part.dim, doubled(last, image)
    counts = (part.registers + part.outputs, prod(last))
    total = prod(last) * (part.width + part.taps * dim) * dim + macs_of(part.ups, (last, twice))
    total += macs_of(part.blocks, [counts] * len(part.blocks)) + macs(part.look, *counts)
    return total + part.outputs * dim * (17 * dim + prod(doubled(twice, image))) // 8


@parameter_count.register
def _(part: MaskTokenHead) -> int:
    dim = part.dim
    fixed = (part.width + part.taps * dim + part.registers + part.outputs) * dim + 6 * dim + dim // 2
    return fixed + parameters_of(part.blocks, (part.look,), part.ups) + part.outputs * (dim + 1) * 17 * dim // 8


@macs.register
def _(part: ResidualConv, size: Size) -> int:
    return prod(size) * ((part.taps + 1) * part.dim + part.out) * part.out


@parameter_count.register
def _(part: ResidualConv) -> int:
    return ((part.taps + 1) * part.dim + part.out + 4) * part.out


@macs.register
def _(part: Branches, size: Size) -> int:
    dim, branches = part.dim, 3
    chosen = part.hidden * (2 * dim + branches + part.experts) + branches * dim * (3 + part.experts * dim)
    return chosen + prod(size) * branches * dim * (part.taps * part.experts + 2 * dim)


@parameter_count.register
def _(part: Branches) -> int:
    dim, branches = part.dim, 3
    chosen = 2 * (dim + 1) * part.hidden + (part.hidden + 1) * (branches + part.experts) + 3
    return chosen + branches * dim * (part.experts * (part.taps + dim) + 2 + dim) + 2 * dim


@macs.register
def _(part: MFFHead, sizes: Sizes) -> int:
    finer = sizes[:-2]
    levels = macs_of(part.ups, sizes[1:-1]) + macs_of(part.joins, finer) + macs_of(part.branches, finer)
    return levels + prod(sizes[0]) * part.widths[0] * part.outputs


@parameter_count.register
def _(part: MFFHead) -> int:
    levels = parameters_of(part.ups, part.joins, part.branches) + 2 * sum(part.widths[:-1])
    return levels + (part.widths[0] + 1) * part.outputs


@macs.register
def _(part: ResidualConvs, size: Size) -> int:
    skip = part.dim if part.dim != part.out else 0
    return prod(size) * (part.taps * (part.dim + part.out) + skip) * part.out


@parameter_count.register
def _(part: ResidualConvs) -> int:
    skip = part.dim + 3 if part.dim != part.out else 0
    return (part.taps * (part.dim + part.out) + 6 + skip) * part.out


@macs.register
def _(part: MirrorUNETRHead, sizes: Sizes) -> int:
    *levels, _ = sizes
    total = macs_of(part.skips, levels) + macs_of(part.ups, levels[1:]) + macs_of(part.joins, levels[:-1])
    return total + prod(levels[0]) * part.taps * part.width * part.outputs


@parameter_count.register
def _(part: MirrorUNETRHead) -> int:
    return parameters_of(part.skips, part.ups, part.joins) + (part.taps * part.width + 1) * part.outputs


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
    return sum(prod(size) * a * b for size, (a, b) in zip(found, pairwise(part.path), strict=False))


@parameter_count.register
def _(part: Climb) -> int:
    return sum(a * b + 2 * b for a, b in pairwise(part.path))


@macs.register
def _(part: MLAHead, sizes: Sizes) -> int:
    *levels, image = sizes
    ways = [levels[level::-1] for level in range(1, part.levels)]
    total = macs(part.lateral, levels[:1]) + macs_of(part.climbs, ways)
    total += part.levels * prod(levels[0]) * 2 * part.taps * part.dim**2
    return total + prod(doubled(levels[0], image)) * part.taps * part.levels * part.dim * part.outputs


@parameter_count.register
def _(part: MLAHead) -> int:
    total = parameter_count(part.lateral) + parameters_of(part.climbs)
    total += part.levels * (2 * part.taps * part.dim + 4) * part.dim
    return total + (part.taps * part.levels * part.dim + 1) * part.outputs


@macs.register
def _(part: PyramidHead, sizes: Sizes) -> int:
    *levels, image = sizes
    total = prod(levels[0]) * part.dim * part.detail
    for width, size in zip(part.widths, levels, strict=True):
        total += prod(size) * (width + part.taps + part.dim) * part.dim
    return total + prod(image) * (part.taps * (part.channels + 2 * part.detail) + part.outputs) * part.detail


@parameter_count.register
def _(part: PyramidHead) -> int:
    levels = sum((width + 3 + part.taps + part.dim) * part.dim for width in part.widths)
    full = part.taps * (part.channels + 2 * part.detail) + 3 + part.outputs
    return levels + (part.dim + 1 + full) * part.detail + part.outputs


@macs.register
def _(part: Up, size: Size) -> int:
    return prod(size) * part.dim * part.out * part.taps


@parameter_count.register
def _(part: Up) -> int:
    return (part.dim * part.taps + 1) * part.out


@macs.register
def _(part: UNetHead, sizes: Sizes) -> int:
    total = prod(sizes[0]) * part.dims_of[0] * part.outputs + macs_of(part.ups, sizes[1:-1])
    for width, dim, size in zip(part.widths[:-1], part.dims_of[:-1], sizes[:-2], strict=True):
        total += prod(size) * part.taps * (width + 2 * dim) * dim
    return total


@parameter_count.register
def _(part: UNetHead) -> int:
    total = (part.dims_of[0] + 1) * part.outputs + parameters_of(part.ups)
    for width, dim in zip(part.widths[:-1], part.dims_of[:-1], strict=True):
        total += part.taps * (width + 2 * dim) * dim + 4 * dim
    return total


@macs.register
def _(part: Pool, size: Size) -> int:
    axes = sum(part.grid ** (axis + 1) * prod(size[axis:]) for axis in range(len(size)))
    return part.dim * (axes + part.grid ** len(size) * part.out)


@macs.register
def _(part: UPerHead, sizes: Sizes) -> int:
    *levels, _ = sizes
    dim, last, grids = part.dim, levels[-1], len(part.pools)
    total = prod(last) * part.taps * (part.widths[-1] + grids * dim) * dim
    total += macs_of(part.pools, [last] * grids)
    for width, size in zip(part.widths[:-1], levels[:-1], strict=True):
        total += prod(size) * (width + part.taps * dim) * dim
    return total + prod(levels[0]) * (part.taps * len(levels) * dim + part.outputs) * dim


@parameter_count.register
def _(part: UPerHead) -> int:
    dim, last, levels, grids = part.dim, part.widths[-1], len(part.widths), len(part.pools)
    context = grids * last + part.taps * (last + grids * dim)
    pyramid = sum(part.widths[:-1]) + part.taps * dim * (2 * levels - 1)
    convs = grids + 2 * levels
    return (context + pyramid + convs * part.rest) * dim + (dim + 1) * part.outputs
