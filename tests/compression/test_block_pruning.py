"""Block pruning: what is kept, how close the result is, and that the stopwatch has the last word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from medsearch.backbones import Interface, Network, build
from medsearch.blocks import CHANNELS
from medsearch.compression.blocks import (
    Gains,
    all_in_int8,
    block_prune,
    choose_blocks,
    largest_row_block,
    measured_gains,
    part_file,
)
from medsearch.compression.prune import Batch, calibration
from medsearch.data import Split
from medsearch.exporters.onnx import to_onnx
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.targets.target import difference, make_target
from medsearch.tasks import make_task

INTERFACE = Interface(task="classification", channels=1, outputs=3)
TASK = make_task("classification", outputs=3, dims=2)


def network(mixer: str = "linear_attention", **knobs: object) -> tuple[Genotype, Network]:
    block = Block(Part.of(mixer), Part.of("mlp", hidden=96, **knobs))
    genotype = Genotype(2, Part.of("conv", stride=2), (Stage(32, (block, block)),), Part.of("classify"))
    return genotype, build(genotype, INTERFACE).eval()


def batches() -> list[Batch]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (32, 1, 16, 16), dtype=np.uint8)
    return calibration(Split(images=images, targets=np.arange(32, dtype=np.int64) % 3), TASK.TARGET, images=32, batch=8)


def always(dense: nn.Module, form: nn.Module, shape: tuple[int, ...]) -> Gains:
    assert form(torch.zeros(1, *shape)).shape == dense(torch.zeros(1, *shape)).shape == (1, 32, 8, 8)
    return Gains(2.0, 2.0)


def test_every_row_block_keeps_the_blocks_with_the_largest_mean() -> None:
    """Two row blocks of 2, three blocks of 16 inputs; |w g| is 1 or 2 or 3 as written."""
    sizes = torch.tensor([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [3.0, 1.0, 2.0], [3.0, 1.0, 2.0]]).repeat_interleave(16, 1)
    weight = sizes * torch.tensor([1.0, -1.0] * 24)
    assert choose_blocks(weight, torch.ones_like(weight), rows=2, kept=2).tolist() == [[1, 2], [0, 2]]


@pytest.mark.parametrize("mixer", ["linear_attention", "dwconv"])
@torch.no_grad()
def test_keeping_all_blocks_changes_nothing(mixer: str) -> None:
    genotype, model = network(mixer)
    with torch.enable_grad():
        form, new_genotype, verdicts = block_prune(model, genotype, INTERFACE, TASK, batches(), keep=1.0, gains=always)
    assert [verdict.taken for verdict in verdicts] == [True, True]
    assert dict(new_genotype.stages[0].blocks[0].channel.knobs)["row_block"] == 32
    images = torch.rand(2, 1, 16, 16) * 255
    assert torch.allclose(form(images), model(images), atol=1e-4)


def test_half_of_the_blocks_come_closer_when_refitted_than_when_only_cut() -> None:
    genotype, model = network("dwconv")
    found = batches()
    form, new_genotype, _ = block_prune(model, genotype, INTERFACE, TASK, found, keep=0.5, gains=always)
    cut = build(new_genotype, INTERFACE).eval()
    cut.load_state_dict(form.state_dict())
    for name, layer in model.named_modules():
        if name.endswith((".expand", ".project")):
            target = cut.get_submodule(name)
            rows, row_block, _ = target.weight_ROK.shape
            inputs = (target.columns[..., None] * 16 + torch.arange(16)).flatten(1)
            weight = layer.weight.flatten(1).unflatten(0, (rows, row_block))
            target.weight_ROK.data = torch.stack([weight[row][:, inputs[row]] for row in range(rows)]).detach()
            if layer.bias is not None:
                target.bias.data = layer.bias.detach()
    images = found[0][0]
    with torch.no_grad():
        wanted = model(images)
        assert (form(images) - wanted).norm() < (cut(images) - wanted).norm()


def test_what_is_slower_in_blocks_stays_as_it_is() -> None:
    genotype, model = network()
    slow = [Gains(3.0, 0.9), Gains(0.9, 3.0)]
    for gains in slow:
        seen = block_prune(model, genotype, INTERFACE, TASK, batches(), keep=0.5, gains=lambda *_, gains=gains: gains)
        assert seen[0] is model
        assert seen[1] == genotype
        assert not any(verdict.taken for verdict in seen[2])


def test_only_dense_perceptrons_with_fitting_widths_have_a_block_form() -> None:
    _, model = network()
    assert largest_row_block(model.get_submodule("stages.0.blocks.0.channel")) == 32
    assert largest_row_block(model.get_submodule("stages.0.blocks.0.mixer")) is None
    _, model = network(row_block=16)
    assert largest_row_block(model.get_submodule("stages.0.blocks.0.channel")) is None


@pytest.mark.parametrize(("norm", "operator"), [("layer", "MatMulIntegerToFloat"), ("batch", "QLinearConv")])
def test_what_the_block_form_is_compared_with_computes_in_int8(norm: str, operator: str, tmp_path: Path) -> None:
    dense = CHANNELS["mlp"](32, dims=2, hidden=96, norm=norm).eval()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(all_in_int8(part_file(dense, (32, 8, 8))), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert [node.op_type for node in nodes].count(operator) == 2


def test_the_stopwatch_times_real_files() -> None:
    genotype, model = network()
    form = build(genotype, INTERFACE).get_submodule("stages.0.blocks.0.channel").eval()
    gains = measured_gains(model.get_submodule("stages.0.blocks.0.channel"), form, (32, 8, 8), seconds=0.05)
    assert 0.3 < gains.over_float < 3


def test_the_block_form_gives_the_same_values_in_onnx() -> None:
    genotype, model = network()
    form, _, _ = block_prune(model, genotype, INTERFACE, TASK, batches(), keep=0.5, gains=always)
    images = np.random.default_rng(1).integers(0, 255, (3, 1, 16, 16), dtype=np.uint8)
    assert difference(make_target("onnxruntime-cpu"), to_onnx(form, (16, 16), 1), form, images) < 1e-4
