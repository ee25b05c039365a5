"""What goes first, how far pruning goes, and what the calibration says."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from medsearch.backbones import Interface, build
from medsearch.blocks.groups import Axis, Group
from medsearch.compression.prune import Pruner, calibration, importance, least_loss
from medsearch.compression.structure import Place, Units, units
from medsearch.data import Split
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.tasks import make_task

INTERFACE = Interface(task="classification", channels=1, outputs=3)
TASK = make_task("classification", outputs=3, dims=2)


def kind(knob: str, count: int, stage: int = 0) -> Units:
    group = Group((Axis("expand"),), Axis("project.weight", 1))
    return Units(place=Place((stage, 0), "channel"), path=f"stages.{stage}", knob=knob, group=group, count=count)


def network(mixer: str = "linear_attention", depth: int = 2) -> tuple[Genotype, torch.nn.Module]:
    mixing = Part.of(mixer, **({"head_dim": 8} if mixer != "dwconv" else {}))
    block = Block(mixing, Part.of("mlp", hidden=64))
    stages = (Stage(16, (block,) * depth), Stage(24, (block,) * depth, Part.of("conv3s2")))
    genotype = Genotype(2, Part.of("conv", stride=2), stages, Part.of("classify"))
    return genotype, build(genotype, INTERFACE).eval()


def split(images: int = 24) -> Split:
    rng = np.random.default_rng(0)
    return Split(
        images=rng.integers(0, 255, (images, 1, 16, 16), dtype=np.uint8), targets=np.arange(images, dtype=np.int64) % 3
    )


def pruner(genotype: Genotype, model: torch.nn.Module) -> Pruner:
    batches = calibration(split(), TASK.TARGET, images=24, batch=8)
    return Pruner(model=model, genotype=genotype, interface=INTERFACE, task=TASK, batches=batches)


def test_the_least_important_units_per_cost_go_first() -> None:
    cheap, dear = kind("heads", 4), kind("heads", 4, stage=1)
    scores = {cheap: torch.tensor([4.0, 1.0, 3.0, 2.0]), dear: torch.tensor([4.0, 1.0, 3.0, 2.0])}
    kept = least_loss(scores, {cheap: 1.0, dear: 10.0}, violation=11.0)
    assert {unit.place.at[0]: chosen.tolist() for unit, chosen in kept.items()} == {1: [0, 2]}


def test_nothing_goes_without_an_excess() -> None:
    unit = kind("hidden", 32)
    assert least_loss({unit: torch.rand(32)}, {unit: 1.0}, violation=0.0) == {}


@pytest.mark.parametrize(
    ("count", "violation", "left"),
    [(32, 3, 24), (27, 1, 24), (27, 4, 16), (100, 1, 96), (100, 5, 80), (100, 1000, 16), (8, 9, 8)],
)
def test_hidden_widths_become_multiples_and_end_at_the_floor(count: int, violation: float, left: int) -> None:
    unit = kind("hidden", count)
    kept = least_loss({unit: torch.rand(count)}, {unit: 1.0}, violation=violation)
    assert len(kept.get(unit, range(count))) == left


def test_a_last_head_stays() -> None:
    unit = kind("heads", 3)
    assert len(least_loss({unit: torch.rand(3)}, {unit: 1.0}, violation=100.0)[unit]) == 1


def test_importance_is_the_squared_slope_of_the_loss_by_finite_differences() -> None:
    genotype, model = network("window_attention")
    model.double()
    batches = [(images.double(), targets) for images, targets in calibration(split(), TASK.TARGET, images=16, batch=8)]
    found = units(model, genotype)
    scores = importance(model, found, TASK, batches)
    for unit in (found[0], found[3]):
        number = unit.count - 1
        entries = unit.group.read.entries(unit.count, torch.tensor([number]))
        expected = 0.0
        for images, targets in batches:
            losses = []
            for scale in (1 - 1e-5, 1 + 1e-5):
                scaled = copy.deepcopy(model)
                scaled.get_parameter(f"{unit.path}.{unit.group.read.name}").data[:, entries] *= scale
                losses.append(TASK.loss(scaled(images), targets).item())
            expected += ((losses[1] - losses[0]) / 2e-5) ** 2 / len(batches)
        assert float(scores[unit][number]) == pytest.approx(expected, rel=1e-4)


def silenced(genotype: Genotype, model: torch.nn.Module) -> dict[str, Tensor]:
    """Take the voice of every second unit; what is left, by the name of the layer that reads."""
    left = {}
    for unit in units(model, genotype):
        gone = torch.arange(0, unit.count, 2)
        weight = model.get_parameter(f"{unit.path}.{unit.group.read.name}")
        weight.data[:, unit.group.read.entries(unit.count, gone)] = 0
        left[unit.path] = unit.count - len(gone)
    return left


def test_units_that_say_nothing_go_and_the_outputs_stay() -> None:
    genotype, model = network(depth=1)
    silenced(genotype, model)
    state = copy.deepcopy(model.state_dict())
    work = pruner(genotype, model)
    pruned = work(0.75)
    assert pruned.macs <= 0.75 * work.before.macs
    images = torch.rand(2, 1, 16, 16) * 255
    assert torch.allclose(pruned.model(images), model(images), rtol=1e-4, atol=1e-5)
    assert pruned.loss == pytest.approx(work.before.loss, abs=1e-5)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items()), "the model must stay"


def test_a_block_that_does_nothing_goes_as_a_whole() -> None:
    genotype, model = network("dwconv", depth=2)
    for name in ("stages.1.blocks.1.mixer.norm", "stages.1.blocks.1.channel.project"):
        for parameter in model.get_submodule(name).parameters():
            parameter.data.zero_()
    pruned = pruner(genotype, model)(0.75)
    assert pruned.dropped == ((1, 1),)
    assert [len(stage.blocks) for stage in pruned.genotype.stages] == [2, 1]


def test_what_is_asked_for_below_the_floors_ends_at_the_floors() -> None:
    genotype, model = network(depth=2)
    work = pruner(genotype, model)
    smallest = work(0.01)
    assert 0.01 < smallest.macs / work.before.macs < 0.7
    assert all(len(stage.blocks) >= 1 for stage in smallest.genotype.stages)
    assert smallest.model(torch.zeros(1, 1, 16, 16)).isfinite().all()


def test_calibration_draws_each_image_at_most_once_and_the_same_ones_again() -> None:
    data = split(20)
    one, other = (calibration(data, TASK.TARGET, images=100, batch=8) for _ in range(2))
    assert [len(images) for images, _ in one] == [8, 8, 4]
    assert torch.cat([images for images, _ in one]).flatten(1).unique(dim=0).shape[0] == 20
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))
