"""Cutting units out of a network leaves what the network computes with those units at zero."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from medsearch.backbones import Interface, Network, build
from medsearch.blocks import CHANNELS, MIXERS
from medsearch.compression.structure import Units, cut, macs, macs_per_unit, paths, units, with_counts
from medsearch.spaces import Block, Genotype, Part, Stage

INTERFACE = Interface(task="classification", channels=2, outputs=3)
SIZES = {2: (18, 14), 3: (10, 8, 12)}
both_dims = pytest.mark.parametrize("dims", [2, 3])


def part(registry, name: str, **knobs: object) -> Part:
    """The part with those of the knobs that it has."""
    return Part.of(name, **{knob: value for knob, value in knobs.items() if knob in registry.knobs(name)})


def genotype(dims: int, mixer: str, channel: str, *, norm: str | None = None, residual: str = "each") -> Genotype:
    """Two stages of two blocks, with three heads of width 8 and 24 hidden channels wherever the parts have them."""
    mixing = part(MIXERS, mixer, head_dim=8, hidden=24, window=3, block=3, grid=3)
    channels = part(CHANNELS, channel, hidden=24, **({} if norm is None else {"norm": norm}))
    block = Block(mixing, channels, residual=residual, layer_scale=0.5)
    stages = (Stage(24, (block, block)), Stage(32, (block, block), Part.of("conv3s2")))
    return Genotype(dims, Part.of("conv", stride=2), stages, Part.of("classify"))


def trained(architecture: Genotype) -> Network:
    """The network with no tensor at its starting value."""
    model = build(architecture, INTERFACE)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.2)
        norm.running_var.uniform_(0.5, 1.5)
    return model.eval()


def some(found: list[Units]) -> dict[Units, Tensor]:
    """A random half of the units of every kind, in order."""
    return {unit: torch.randperm(unit.count)[: max(1, unit.count // 2)].sort().values for unit in found}


def silence(model: Network, kept: dict[Units, Tensor]) -> None:
    """Set all that belongs to other units to zero; a LayerNorm across units sees the kept ones only."""
    for unit, chosen in kept.items():
        block = model.get_submodule(unit.path)
        for axis in (*unit.group.made, unit.group.read):
            holder, _, name = axis.name.rpartition(".")
            owner = block.get_submodule(holder)
            target = getattr(owner, name)
            if isinstance(target, Tensor) and not isinstance(target, nn.Parameter):
                continue
            entries = axis.entries(unit.count, chosen)
            if isinstance(target, nn.LayerNorm):
                setattr(owner, name, NormOf(target, entries))
                continue
            for tensor in [target] if isinstance(target, Tensor) else list(target.state_dict().values()):
                if tensor.ndim > axis.axis and tensor.shape[axis.axis] > 1:
                    gone = torch.ones(tensor.shape[axis.axis], dtype=torch.bool)
                    gone[entries] = False
                    tensor.data.movedim(axis.axis, 0)[gone] = 0


class NormOf(nn.Module):
    """A LayerNorm over ``chosen`` entries of the last axis, zero elsewhere."""

    def __init__(self, norm: nn.LayerNorm, chosen: Tensor) -> None:
        super().__init__()
        self.norm, self.chosen = norm, chosen

    def forward(self, x: Tensor) -> Tensor:
        norm, chosen = self.norm, self.chosen
        weight, bias = norm.weight[chosen], norm.bias[chosen]
        normed = nn.functional.layer_norm(x[..., chosen], (len(chosen),), weight, bias, norm.eps)
        return torch.zeros_like(x).index_copy(-1, chosen, normed)


CASES = [(mixer, "mlp", None) for mixer in MIXERS]
PRUNABLE = [channel for channel in CHANNELS if hasattr(CHANNELS[channel], "groups")]
CASES += [("dwconv", channel, norm) for channel, norm in itertools.product(PRUNABLE, ("layer", "batch"))]


@both_dims
@pytest.mark.parametrize(("mixer", "channel", "norm"), CASES)
@torch.no_grad()
def test_cutting_units_is_the_same_as_silencing_them(dims: int, mixer: str, channel: str, norm: str | None) -> None:
    architecture = genotype(dims, mixer, channel, norm=norm)
    model = trained(architecture)
    kept = some(units(model, architecture))
    smaller, cut_genotype = cut(model, architecture, INTERFACE, kept)
    image_BCS = torch.randn(2, 2, *SIZES[dims])
    whole = model(image_BCS)
    silence(model, kept)
    expected = model(image_BCS)
    assert (whole - expected).abs().max() > 1e-3, "the units that went must have mattered"
    assert torch.allclose(smaller(image_BCS), expected, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    assert Genotype.from_data(cut_genotype.to_data()) == cut_genotype


@pytest.mark.parametrize("name", MIXERS)
def test_every_mixer_with_a_countable_width_says_what_belongs_to_it(name: str) -> None:
    found = units(trained(genotype(2, name, "mlp")), genotype(2, name, "mlp"))
    knobs = {unit.knob for unit in found if unit.place.role == "mixer"}
    assert knobs <= {knob for knob in MIXERS.knobs(name) if knob == "heads" or knob.endswith("hidden")}
    assert bool(knobs) == hasattr(MIXERS[name], "groups")


@pytest.mark.parametrize("residual", ["each", "joint"])
@torch.no_grad()
def test_a_dropped_block_passes_its_input_on(residual: str) -> None:
    architecture = genotype(2, "window_attention", "mlp", residual=residual)
    model = trained(architecture)
    smaller, short = cut(model, architecture, INTERFACE, {}, dropped=[(0, 1), (1, 0)])
    assert [len(stage.blocks) for stage in short.stages] == [1, 1]
    scales = ("joint_scale",) if residual == "joint" else ("mixer_scale", "channel_scale")
    for block in ("stages.0.blocks.1", "stages.1.blocks.0"):
        for scale in scales:
            model.get_parameter(f"{block}.{scale}").zero_()
    image_BCS = torch.randn(2, 2, *SIZES[2])
    assert torch.allclose(smaller(image_BCS), model(image_BCS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("residual", ["each", "joint"])
def test_paths_lead_to_the_parts_of_the_genotype(residual: str) -> None:
    architecture = genotype(2, "linear_attention", "conv_mlp", residual=residual)
    model = build(architecture, INTERFACE)
    seen = {place: type(model.get_submodule(path)) for place, path in paths(architecture).items()}
    assert len(seen) == 8
    wanted = {"mixer": MIXERS["linear_attention"], "channel": CHANNELS["conv_mlp"]}
    assert all(kind is wanted[place.role] for place, kind in seen.items())


def test_the_cost_of_a_unit_is_what_the_network_saves_without_it() -> None:
    architecture = genotype(2, "window_attention", "mlp")
    found = units(build(architecture, INTERFACE), architecture)
    costs = macs_per_unit(found, architecture, INTERFACE, SIZES[2])
    fewer = {unit: unit.count - 1 for unit in found}
    saved = macs(architecture, INTERFACE, SIZES[2]) - macs(with_counts(architecture, fewer), INTERFACE, SIZES[2])
    assert saved == pytest.approx(sum(costs.values()))


def test_multiply_adds_are_those_of_the_layers() -> None:
    """Stem 3 x 3 x 2 x 24 at 9 x 7, a depthwise 5 x 5 and a 24 -> 8 -> 24 perceptron there, and the head."""
    block = Block(Part.of("dwconv", kernel=5), Part.of("mlp", hidden=8))
    architecture = Genotype(2, Part.of("conv", stride=2), (Stage(24, (block,)),), Part.of("classify"))
    expected = 63 * (9 * 2 * 24 + 25 * 24 + 2 * 24 * 8) + 24 * 3
    assert macs(architecture, INTERFACE, SIZES[2]) == expected
