"""Channel mixers."""

from __future__ import annotations

from math import prod

from medsearch.blocks.channels.conv_mlp import ConvMlp
from medsearch.blocks.channels.dbffn import DualBranchMlp
from medsearch.blocks.channels.gated import GatedMlp
from medsearch.blocks.channels.kan import KanMlp
from medsearch.blocks.channels.locality import LocalityMlp
from medsearch.blocks.channels.mlp import Mlp
from medsearch.blocks.channels.none import NoChannelMixer
from oracles.questions import ReceptiveField, Size, macs, parameter_count, receptive_field


@macs.register
def _(part: ConvMlp, size: Size) -> int:
    return prod(size) * (part.hidden * (part.reads[0] + part.window) + part.dim * part.reads[1])


@parameter_count.register
def _(part: ConvMlp) -> int:
    norm_and_biases = 3 * part.dim + 2 * part.hidden if part.norm_first else part.dim + 2 * part.hidden
    return macs(part, (1,)) + norm_and_biases + 2 * part.hidden * part.filter_normed


@receptive_field.register
def _(part: ConvMlp) -> ReceptiveField:
    return ReceptiveField(part.filter.kernel_size[0] // 2)


@macs.register
def _(part: DualBranchMlp, size: Size) -> int:
    return (4 * part.dim**2 + 4 * part.dim * part.windows) * prod(size)


@parameter_count.register
def _(part: DualBranchMlp) -> int:
    return 4 * part.dim**2 + 4 * part.dim * part.windows + 12 * part.dim + 2 * part.dim * part.layer_norm


@receptive_field.register
def _(part: DualBranchMlp) -> ReceptiveField:
    return ReceptiveField(2 * (max(3, part.kernel) // 2))


@macs.register
def _(part: GatedMlp, size: Size) -> int:
    return 3 * part.hidden * part.dim * prod(size)


@parameter_count.register
def _(part: GatedMlp) -> int:
    return 3 * part.hidden * part.dim + (2 * part.dim if part.norm_first else 4 * part.hidden)


@receptive_field.register
def _(part: GatedMlp) -> ReceptiveField:
    return ReceptiveField(0)


@macs.register
def _(part: KanMlp, size: Size) -> int:
    return 2 * part.bumps * part.hidden * part.dim * prod(size)


@parameter_count.register
def _(part: KanMlp) -> int:
    return macs(part, ()) + 2 * (part.dim + part.hidden) + 2 * part.dim * part.batch_norm


@receptive_field.register
def _(part: KanMlp) -> ReceptiveField:
    return ReceptiveField(0)


@macs.register
def _(part: LocalityMlp, size: Size) -> int:
    return (2 * part.dim + part.window) * part.hidden * prod(size) + 2 * part.hidden * part.units


@parameter_count.register
def _(part: LocalityMlp) -> int:
    gate = 2 * part.hidden * part.units + part.units + part.hidden
    return (2 * part.dim + part.window) * part.hidden + gate + 4 * (part.dim + part.hidden)


@macs.register
def _(part: Mlp, size: Size) -> int:
    return prod(size) * (part.hidden * part.reads[0] + part.dim * part.reads[1])


@parameter_count.register
def _(part: Mlp) -> int:
    norm_and_biases = 3 * part.dim + part.hidden if part.norm_first else part.dim + 2 * part.hidden
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
