"""Mixers of filters, pooling, and no mixer at all."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from medsearch.blocks.mixers.conv_block import ConvBlock
from medsearch.blocks.mixers.dwconv import DepthwiseConv
from medsearch.blocks.mixers.gnconv import GatedRecursiveConv
from medsearch.blocks.mixers.hyena import Hyena
from medsearch.blocks.mixers.identity import NoMixing
from medsearch.blocks.mixers.local_concentration import LocalConcentration
from medsearch.blocks.mixers.mbconv import MBConv
from medsearch.blocks.mixers.pooling import Pooling
from medsearch.blocks.mixers.separable_conv import SeparableConv
from oracles.questions import ReceptiveField, Size, macs, mirror_image, parameter_count, receptive_field


@macs.register
def _(part: ConvBlock, size: Size) -> int:
    return 2 * prod(size) * prod(part.kernel) * part.dim * part.hidden


@parameter_count.register
def _(part: ConvBlock) -> int:
    return 2 * (prod(part.kernel) * part.dim * part.hidden + part.hidden + part.dim)


@receptive_field.register
def _(part: ConvBlock) -> ReceptiveField | None:
    """Half a window for each of the two convolutions; instance norms see the whole map."""
    if not isinstance(part.expand_norm, nn.BatchNorm2d | nn.BatchNorm3d):
        return None
    return ReceptiveField(2 * max(edge // 2 for edge in part.kernel))


@macs.register
def _(part: DepthwiseConv, size: Size) -> int:
    return prod(size) * prod(part.kernel) * part.dim


@parameter_count.register
def _(part: DepthwiseConv) -> int:
    return (prod(part.kernel) + (2 if part.filter.bias is None else 1)) * part.dim


@receptive_field.register
def _(part: DepthwiseConv) -> ReceptiveField:
    """The half of the window, gaps included."""
    return ReceptiveField(max(part.margin))


def _gate_weights(part: GatedRecursiveConv) -> int:
    """The weights of all matrices."""
    split = part.dim * (part.widths[0] + sum(part.widths))
    return split + sum(narrow * wide for narrow, wide in pairwise(part.widths)) + part.dim**2


@macs.register
def _(part: GatedRecursiveConv, size: Size) -> int:
    return prod(size) * (prod(part.kernel) * sum(part.widths) + _gate_weights(part))


@parameter_count.register
def _(part: GatedRecursiveConv) -> int:
    biases = 2 * sum(part.widths) + sum(part.widths[1:]) + part.widths[0] + part.dim
    return 2 * part.dim + prod(part.kernel) * sum(part.widths) + _gate_weights(part) + biases


@receptive_field.register
def _(part: GatedRecursiveConv) -> ReceptiveField:
    """Half a window."""
    return ReceptiveField(max(edge // 2 for edge in part.kernel))


def _filter_macs(part: Hyena, length: int) -> int:
    """Multiply-adds of the network that makes the filters along one axis."""
    width = part.filters[0].first.out_features
    return 2 * length * width * (1 + 2 * part.bands + width + part.order * part.dim)


@macs.register
def _(part: Hyena, size: Size) -> int:
    near = 3 ** len(size) * (part.order + 1)
    per_position = (part.order + 2) * part.dim + near + part.order * sum(size)
    return prod(size) * per_position * part.dim + sum(_filter_macs(part, length) for length in size)


@parameter_count.register
def _(part: Hyena) -> int:
    streams = (part.dim + 1 + 3 ** len(part.filters) + 1) * (part.order + 1) * part.dim
    others = (2 + part.order + part.dim + 1) * part.dim
    width = part.filters[0].first.out_features
    filters = width * (1 + 2 * part.bands + width + 2 + part.order * part.dim)
    return streams + others + filters * len(part.filters)


@mirror_image.register
def _(part: Hyena, axis: int) -> dict[str, Tensor]:
    """Filters are mirrored where the network of an axis reads offsets and their sines with the opposite sign."""
    name = f"filters.{axis}.first.weight"
    weight = part.get_parameter(name).clone()
    weight[:, [0, *range(1 + part.bands, 1 + 2 * part.bands)]] *= -1
    return {name: weight}


@macs.register
def _(part: NoMixing, size: Size) -> int:
    return 0


@parameter_count.register
def _(part: NoMixing) -> int:
    return 0


@receptive_field.register
def _(part: NoMixing) -> ReceptiveField:
    """Nowhere."""
    return ReceptiveField(0)


@macs.register
def _(part: LocalConcentration, size: Size) -> int:
    return 2 * prod(size) * prod(part.kernel) * part.dim


@parameter_count.register
def _(part: LocalConcentration) -> int:
    return (2 * prod(part.kernel) + 6) * part.dim


@receptive_field.register
def _(part: LocalConcentration) -> ReceptiveField:
    """Half a window for each of the two filters."""
    return ReceptiveField(2 * max(edge // 2 for edge in part.kernel))


@macs.register
def _(part: MBConv, size: Size) -> int:
    return (prod(size) * (2 * part.dim + prod(part.kernel)) + 2 * part.units) * part.hidden


@parameter_count.register
def _(part: MBConv) -> int:
    gates = (2 * part.units + 1) * part.hidden + part.units if part.units else 0
    return (2 * part.dim + prod(part.kernel) + 4) * part.hidden + 2 * part.dim + gates


@receptive_field.register
def _(part: MBConv) -> ReceptiveField | None:
    """Half a window; gates see the whole map."""
    return None if part.units else ReceptiveField(max(edge // 2 for edge in part.kernel))


@macs.register
def _(part: Pooling, size: Size) -> int:
    return 0


@parameter_count.register
def _(part: Pooling) -> int:
    return 2 * part.norm.normalized_shape[0]


@receptive_field.register
def _(part: Pooling) -> ReceptiveField:
    """Half a window."""
    return ReceptiveField(max(edge // 2 for edge in part.kernel))


@macs.register
def _(part: SeparableConv, size: Size) -> int:
    return prod(size) * (2 * part.dim + prod(part.kernel)) * part.hidden


@parameter_count.register
def _(part: SeparableConv) -> int:
    return (2 * part.dim + prod(part.kernel) + 2) * part.hidden + 3 * part.dim


@receptive_field.register
def _(part: SeparableConv) -> ReceptiveField:
    """Half a window."""
    return ReceptiveField(max(edge // 2 for edge in part.kernel))
