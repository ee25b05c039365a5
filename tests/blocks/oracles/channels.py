"""Channel mixers."""

from __future__ import annotations

from math import prod

from torch import nn

from medsearch.blocks.block_linear import BlockLinear
from medsearch.blocks.channels.conv_mlp import ConvMlp
from medsearch.blocks.channels.dbffn import DualBranchMlp
from medsearch.blocks.channels.gated import GatedMlp
from medsearch.blocks.channels.kan import KanMlp
from medsearch.blocks.channels.locality import LocalityMlp
from medsearch.blocks.channels.mlp import Mlp
from medsearch.blocks.channels.none import NoChannelMixer
from oracles.questions import ReceptiveField, Size, macs, parameter_count, receptive_field

Layer = nn.Linear | nn.Conv2d | nn.Conv3d | BlockLinear


def _outputs(layer: Layer) -> int:
    return prod(layer.weight_ROK.shape[:2]) if isinstance(layer, BlockLinear) else layer.weight.shape[0]


def _inputs(layer: Layer) -> int:
    """How many inputs each output reads: all where the layer is dense, else those of the blocks that are kept."""
    return layer.weight_ROK.shape[2] if isinstance(layer, BlockLinear) else layer.weight.shape[1]


@macs.register
def _(part: ConvMlp, size: Size) -> int:
    hidden, window = part.filter.out_channels, prod(part.filter.kernel_size)
    return prod(size) * (hidden * (_inputs(part.expand) + window) + _outputs(part.project) * _inputs(part.project))


@parameter_count.register
def _(part: ConvMlp) -> int:
    dim, hidden = _outputs(part.project), part.filter.out_channels
    norm_and_biases = 3 * dim + 2 * hidden if part.norm_first else dim + 2 * hidden
    return macs(part, (1,)) + norm_and_biases + 2 * hidden * part.filter_normed


@receptive_field.register
def _(part: ConvMlp) -> ReceptiveField:
    return ReceptiveField(part.filter.kernel_size[0] // 2)


@macs.register
def _(part: DualBranchMlp, size: Size) -> int:
    dim = part.expand.in_channels
    windows = prod(part.near.kernel_size) + prod(part.far.kernel_size)
    return (4 * dim**2 + 4 * dim * windows) * prod(size)


@parameter_count.register
def _(part: DualBranchMlp) -> int:
    dim = part.expand.in_channels
    windows = prod(part.near.kernel_size) + prod(part.far.kernel_size)
    return 4 * dim**2 + 4 * dim * windows + 12 * dim + 2 * dim * part.layer_norm


@receptive_field.register
def _(part: DualBranchMlp) -> ReceptiveField:
    return ReceptiveField(2 * (max(3, part.far.kernel_size[0]) // 2))


@macs.register
def _(part: GatedMlp, size: Size) -> int:
    dim, hidden = _outputs(part.project), _inputs(part.project)
    return 3 * hidden * dim * prod(size)


@parameter_count.register
def _(part: GatedMlp) -> int:
    dim, hidden = _outputs(part.project), _inputs(part.project)
    return 3 * hidden * dim + (2 * dim if part.norm_first else 4 * hidden)


@receptive_field.register
def _(part: GatedMlp) -> ReceptiveField:
    return ReceptiveField(0)


@macs.register
def _(part: KanMlp, size: Size) -> int:
    return 2 * prod(part.expand.weight_GOC.shape) * prod(size)


@parameter_count.register
def _(part: KanMlp) -> int:
    _, hidden, dim = part.expand.weight_GOC.shape
    return macs(part, ()) + 2 * (dim + hidden) + 2 * dim * part.batch_norm


@receptive_field.register
def _(part: KanMlp) -> ReceptiveField:
    return ReceptiveField(0)


@macs.register
def _(part: LocalityMlp, size: Size) -> int:
    dim, hidden = part.expand.in_channels, part.expand.out_channels
    window, units = prod(part.filter.kernel_size), part.squeeze.out_features
    return (2 * dim + window) * hidden * prod(size) + 2 * hidden * units


@parameter_count.register
def _(part: LocalityMlp) -> int:
    dim, hidden = part.expand.in_channels, part.expand.out_channels
    window, units = prod(part.filter.kernel_size), part.squeeze.out_features
    gate = 2 * hidden * units + units + hidden
    return (2 * dim + window) * hidden + gate + 4 * (dim + hidden)


@macs.register
def _(part: Mlp, size: Size) -> int:
    return prod(size) * sum(_outputs(layer) * _inputs(layer) for layer in (part.expand, part.project))


@parameter_count.register
def _(part: Mlp) -> int:
    dim, hidden = _outputs(part.project), _outputs(part.expand)
    norm_and_biases = 3 * dim + hidden if part.norm_first else dim + 2 * hidden
    return macs(part, (1,)) + norm_and_biases


@receptive_field.register
def _(part: Mlp) -> ReceptiveField:
    return ReceptiveField(0)


@macs.register
def _(part: NoChannelMixer, size: Size) -> int:
    return 0


@parameter_count.register
def _(part: NoChannelMixer) -> int:
    return 0


@receptive_field.register
def _(part: NoChannelMixer) -> ReceptiveField:
    return ReceptiveField(0)
