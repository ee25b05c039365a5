"""Attention: its core, and the mixers that hold it."""

from __future__ import annotations

from math import lcm, prod

from torch import Tensor

from medsearch.blocks.attention import OffsetTable, Projections, SoftmaxProduct
from medsearch.blocks.mixers.compressed_attention import CompressedAttention
from medsearch.blocks.mixers.full_attention import FullAttention
from medsearch.blocks.mixers.linear_attention import LinearAttention
from medsearch.blocks.mixers.multiscale_linear_attention import MultiscaleLinearAttention
from medsearch.blocks.mixers.neighbourhood_attention import NeighbourhoodAttention
from medsearch.blocks.mixers.pooled_attention import PooledAttention, _Conv, _Dct, _DepthwiseConv, _Mean
from medsearch.blocks.mixers.region_topk_attention import RegionTopkAttention
from medsearch.blocks.mixers.retention import Retention
from medsearch.blocks.mixers.window_attention import WindowAttention
from oracles.questions import ReceptiveField, Size, macs, mirror_image, parameter_count, receptive_field


def _linear_macs(kernel: str, positions: int, heads: int, head_dim: int) -> int:
    """Multiply-adds of ``linear_product`` for one image."""
    normalised = 1 if kernel in ("elu1", "relu") else 0
    return positions * heads * head_dim * (2 * head_dim + normalised)


def _more_per_value(part: LinearAttention, bias: int) -> int:
    """How many more weights, ``bias`` counted or not, narrowed values take than one plain layer."""
    dim, inner = part.project.dim, part.project.shape.inner
    return (dim + bias) * part.narrow + (part.narrow + bias) * inner - (dim + bias) * inner if part.narrow else 0


@macs.register
def _(part: Projections, positions: int, *, queries: int | None = None, keys: int | None = None) -> int:
    """Multiply-adds for a map of so many positions, from which so many queries, and keys with values, are made."""
    queries = positions if queries is None else queries
    keys = positions if keys is None else keys
    heads, width, narrow = part.shape
    made = part.dim * heads * (queries * narrow + keys * (narrow + width))
    local = 0 if part.local is None else prod(part.local.kernel_size)
    return made + positions * part.shape.inner * (local + part.dim * (1 + (part.gate is not None)))


@parameter_count.register
def _(part: Projections) -> int:
    heads, width, narrow = part.shape
    inner = part.shape.inner
    rows = part.dim + (part.q.bias is not None)
    count = 2 * part.dim + rows * heads * (2 * narrow + width) + (inner + 1) * part.dim
    if part.gate is not None:
        count += (part.dim + 1) * inner
    if part.local is not None:
        count += (prod(part.local.kernel_size) + 1) * inner
    return count


@macs.register
def _(part: SoftmaxProduct, queries: int, keys: int, *, offered: int | None = None) -> int:
    """Multiply-adds where each of so many queries meets so many keys, and is left so many; of inference."""
    heads, width, narrow = part.shape
    if part._written_out(keys, part.kept(keys if offered is None else offered)):
        return queries * keys * heads * ((1 + part.differential) * part.narrow + width)
    maps = 2 if part.differential else 1
    return queries * keys * heads * maps * (max(narrow, width) + width)


@parameter_count.register
def _(part: SoftmaxProduct) -> int:
    return 4 * part.narrow + part.shape.head_dim if part.differential else 0


@parameter_count.register
def _(part: OffsetTable) -> int:
    return prod(2 * edge - 1 for edge in part.window) * part.heads


@mirror_image.register
def _(part: OffsetTable, axis: int) -> dict[str, Tensor]:
    """Offsets along ``axis`` change their sign."""
    edges = [2 * edge - 1 for edge in part.window]
    return {"table": part.table.unflatten(0, edges).flip(axis).flatten(0, -2)}


@macs.register
def _(part: CompressedAttention, size: Size) -> int:
    plan, dim = part._plan(prod(size)), part.project.dim
    choice = (plan.positions + 1) * dim**2 + plan.positions * dim
    matching = plan.even * plan.odd * dim if plan.merged else 0
    projected = macs(part.project, plan.positions, queries=plan.tokens, keys=plan.tokens)
    return projected + choice + matching + macs(part.product, plan.tokens, plan.tokens)


@parameter_count.register
def _(part: CompressedAttention) -> int:
    return parameter_count(part.project) + parameter_count(part.product) + 2 * part.project.dim**2


@mirror_image.register
def _(part: CompressedAttention, axis: int) -> dict[str, Tensor] | None:
    """None where positions that take turns in the order of the map merge: a mirror changes whose turn it is."""
    return None if part.in_order and part.merge else {}


@macs.register
def _(part: FullAttention, size: Size) -> int:
    positions = prod(size)
    return macs(part.project, positions) + macs(part.product, positions, positions)


@parameter_count.register
def _(part: FullAttention) -> int:
    return parameter_count(part.project) + parameter_count(part.product)


@macs.register
def _(part: LinearAttention, size: Size) -> int:
    heads, head_dim, _ = part.project.shape
    product = _linear_macs(part.kernel, prod(size), heads, head_dim)
    return macs(part.project, prod(size)) + product + prod(size) * _more_per_value(part, 0)


@parameter_count.register
def _(part: LinearAttention) -> int:
    factors = part.project.shape.heads if part.kernel == "relu" else 0
    return parameter_count(part.project) + factors + _more_per_value(part, int(part.project.q.bias is not None))


@mirror_image.register
def _(part: LinearAttention, axis: int) -> dict[str, Tensor] | None:
    """Nothing to change; rotation has a sense that no weights reverse, as what it turns is not negative."""
    return None if part.rotary else {}


@macs.register
def _(part: MultiscaleLinearAttention, size: Size) -> int:
    positions, count, inner = prod(size), len(part.edges), part.heads * part.head_dim
    width = part.join.in_features // count
    filters = width * sum(k ** len(size) for k in part.edges)
    shared = count * _linear_macs("swapped", positions, part.heads, part.head_dim)
    return positions * (filters + count * 4 * width * inner + part.join.in_features**2) + shared


@parameter_count.register
def _(part: MultiscaleLinearAttention) -> int:
    dim, count, inner = part.join.in_features, len(part.edges), part.heads * part.head_dim
    width = dim // count
    filters = width * sum(prod(scale.filter.kernel_size) + 1 for scale in part.scales)
    return 2 * dim + filters + (4 * inner + 1) * width + count + (dim + 1) * dim


@macs.register
def _(part: NeighbourhoodAttention, size: Size) -> int:
    """Multiply-adds for a map of ``size``, with those for keys that a tile has and a query does not read."""
    tiles = part._tiles(size)
    queries = prod(tile.groups * tile.queries for tile in tiles)
    product = macs(part.product, queries, prod(tile.keys for tile in tiles), offered=part._offered(tiles))
    return macs(part.project, prod(size)) + product


@parameter_count.register
def _(part: NeighbourhoodAttention) -> int:
    table = 0 if part.position is None else parameter_count(part.position)
    return parameter_count(part.project) + parameter_count(part.product) + table


@receptive_field.register
def _(part: NeighbourhoodAttention) -> ReceptiveField:
    """To the far end of a window that a border has pushed inwards."""
    local = 0 if part.project.local is None else part.project.local.kernel_size[0] // 2
    windows = ((edge - 1) * apart for edge, apart in zip(part.kernel, part.dilation, strict=True))
    return ReceptiveField(max(*windows, local))


@macs.register
def _(part: PooledAttention, size: Size) -> int:
    positions, keys = prod(size), prod(part.pool.reduced(size))
    attention = macs(part.project, positions, keys=keys) + macs(part.product, positions, keys)
    local = 0 if part.local is None else prod(part.local.kernel_size) * part.project.dim * positions
    return attention + local + macs(part.pool, size)


@parameter_count.register
def _(part: PooledAttention) -> int:
    local = 0 if part.local is None else (prod(part.local.kernel_size) + 1) * part.project.dim
    return parameter_count(part.project) + parameter_count(part.product) + local + parameter_count(part.pool)


@macs.register
def _(part: _Mean, size: Size) -> int:
    return 0


@parameter_count.register
def _(part: _Mean) -> int:
    return 2 * part.norm.normalized_shape[0]


@macs.register
def _(part: _Conv, size: Size) -> int:
    return prod(part.reduced(size)) * prod(part.window) * part.filter.in_channels**2


@parameter_count.register
def _(part: _Conv) -> int:
    dim = part.filter.in_channels
    return prod(part.window) * dim**2 + 3 * dim


@macs.register
def _(part: _DepthwiseConv, size: Size) -> int:
    taps = prod(size) * 3 ** len(size) + 2 * prod(part.reduced(size)) * prod(part.kernel)
    return part.q.conv.in_channels * taps


@parameter_count.register
def _(part: _DepthwiseConv) -> int:
    return part.q.conv.in_channels * (3 ** len(part.window) + 2 * prod(part.kernel) + 3 * 2)


@macs.register
def _(part: _Dct, size: Size) -> int:
    dim, done, total = part.norm.normalized_shape[0], list(size), 0
    for axis, (length, kept) in enumerate(zip(size, part.reduced(size), strict=True)):
        done[axis] = kept
        total += (prod(done) * dim + kept**2) * length if kept < length else 0
    return total


@parameter_count.register
def _(part: _Dct) -> int:
    return 2 * part.norm.normalized_shape[0]


@macs.register
def _(part: RegionTopkAttention, size: Size) -> int:
    """Multiply-adds for a map of ``size``; what queries of padding see is computed, too."""
    window, padded = part._layout(size)
    tokens, edge = prod(padded), prod(window)
    regions = tokens // edge
    shape = part.project.shape
    routing = regions**2 * shape.heads * shape.qk_dim if part.top_regions < regions else 0
    product = macs(part.product, tokens, min(part.top_regions, regions) * edge)
    return macs(part.project, prod(size)) + routing + product


@parameter_count.register
def _(part: RegionTopkAttention) -> int:
    return parameter_count(part.project) + parameter_count(part.product)


@macs.register
def _(part: Retention, size: Size) -> int:
    keys = sum(size) if part.form == "axial" else prod(size)
    return macs(part.project, prod(size)) + prod(size) * 2 * keys * part.project.shape.inner


@parameter_count.register
def _(part: Retention) -> int:
    return parameter_count(part.project) + 2 * part.project.shape.inner


@macs.register
def _(part: WindowAttention, size: Size) -> int:
    """Multiply-adds for a map of ``size``; queries, keys, values and maps of padding are computed too."""
    window, _, padded = part._layout(size)
    tokens = prod(padded)
    projected = macs(part.project, prod(size), queries=tokens, keys=tokens)
    return projected + macs(part.product, tokens, prod(window))


@parameter_count.register
def _(part: WindowAttention) -> int:
    table = 0 if part.position is None else parameter_count(part.position)
    return parameter_count(part.project) + parameter_count(part.product) + table


@receptive_field.register
def _(part: WindowAttention) -> ReceptiveField:
    """To the far side of a window; what moves by whole windows is treated alike."""
    local = 0 if part.project.local is None else part.project.local.kernel_size[0] // 2
    return ReceptiveField(max(*part.window, local + 1) - 1, lcm(*part.window))


@mirror_image.register
def _(part: WindowAttention, axis: int) -> dict[str, Tensor] | None:
    """None where shifted, as few sizes leave the same part of a window over at both ends."""
    return None if part.shift[axis] else {}
