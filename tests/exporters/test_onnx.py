"""ONNX files: the same values at any batch size, self-contained, and a check that notices a difference."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from medsearch.backbones import Interface, Network, build
from medsearch.core.errors import RefusedError
from medsearch.exporters.onnx import OPSET, to_onnx, to_onnx_fast
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.targets.target import difference, make_target

CPU = make_target("onnxruntime-cpu")


def network(dims: int, interface: Interface, *mixers: str) -> Network:
    """One stage a mixer, statistics and scales away from their starting values, in training mode."""
    stages = [
        Stage(8 * (i + 1), (Block(Part.of(name), Part.of("mlp", ratio=2)),), Part.of("conv3s2") if i else None)
        for i, name in enumerate(mixers)
    ]
    head = Part.of("classify") if interface.task == "classification" else Part.of("pyramid", dim=8, detail=4)
    model = build(Genotype(dims, Part.of("conv", stride=2), tuple(stages), head), interface)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
    model.standardize.mean += 100.0
    model.standardize.std *= 50.0
    return model.train()


@pytest.fixture(scope="module")
def classifier() -> tuple[Network, bytes]:
    torch.manual_seed(0)
    model = network(2, Interface(task="classification", channels=3, outputs=4), "dwconv", "window_attention")
    model.to(memory_format=torch.channels_last)
    return model, to_onnx(model, (21, 24), 3)


def raw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def test_values_are_those_of_the_network_at_any_batch_size(classifier: tuple[Network, bytes]) -> None:
    model, data = classifier
    assert difference(CPU, data, model, raw(5, 3, 21, 24)) < 1e-5
    assert model.training
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    seen = session.run(None, {"image": raw(7, 3, 21, 24).astype(np.float32)})[0]
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(raw(7, 3, 21, 24)).float())
    model.train()
    np.testing.assert_allclose(seen, expected.numpy(), rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_volume_denoiser_goes_through_too(tmp_path: Path) -> None:
    model = network(3, Interface(task="denoising", channels=1, outputs=1), "linear_attention")
    data = to_onnx(model, (8, 7, 6), 1, path=tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() == data
    assert difference(CPU, data, model, raw(3, 1, 8, 7, 6)) < 1e-5


def test_the_file_says_what_goes_in_and_out(classifier: tuple[Network, bytes]) -> None:
    graph = onnx.load_model_from_string(classifier[1]).graph
    ((image,), (output,)) = graph.input, graph.output
    shape = image.type.tensor_type.shape.dim
    assert (image.name, output.name) == ("image", "output")
    assert [axis.dim_param or axis.dim_value for axis in shape] == ["batch", 3, 21, 24]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_the_file_is_folded_and_holds_its_weights_and_nothing_of_this_machine(
    classifier: tuple[Network, bytes],
) -> None:
    model, data = classifier
    loaded = onnx.load_model_from_string(data)
    onnx.checker.check_model(loaded)
    assert [(entry.domain, entry.version) for entry in loaded.opset_import] == [("", OPSET)]
    assert "BatchNormalization" not in {node.op_type for node in loaded.graph.node}
    weights = [onnx.numpy_helper.to_array(entry) for entry in loaded.graph.initializer]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    numbers = sum(array.size for array in weights if array.dtype == np.float32)
    assert 0.9 < numbers / parameters < 1.3, (
        "the table of 13 x 13 offsets is spread to 49 x 49, all else is stored once"
    )
    for trace in (b".py", b"torch.export", b"site-packages"):
        assert trace not in data


def test_exporting_leaves_the_model_and_the_settings_alone(recwarn: pytest.WarningsRecorder) -> None:
    model = network(2, Interface(task="classification", channels=1, outputs=2), "dwconv")
    model.stem.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    filters, level = list(warnings.filters), logging.getLogger("torch.onnx").level
    to_onnx(model, (8, 8), 1)
    to_onnx_fast(model, (torch.zeros(1, 1, 8, 8),))
    assert model.training and not model.stem.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert warnings.filters == filters and logging.getLogger("torch.onnx").level == level
    assert not recwarn.list


def test_the_check_sees_a_weight_that_changed(classifier: tuple[Network, bytes]) -> None:
    model, data = classifier
    images = raw(2, 3, 21, 24)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.head.linear.weight[0, 0] += 0.1
        assert difference(CPU, data, changed, images) > 1e-4
        changed.head.linear.bias[0] = math.nan
        assert difference(CPU, data, changed, images) == math.inf


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvalsh(x @ x.transpose(-1, -2))


def test_what_has_no_onnx_form_is_refused() -> None:
    with pytest.raises(RefusedError, match="ONNX export: the exporter refused the network"):
        to_onnx(Broken(), (4, 4), 1)


def run(data: bytes, inputs: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    given = {f"input_{i}": x.numpy() for i, x in enumerate(tree_leaves(inputs))}
    return np.asarray(session.run(None, {entry.name: given[entry.name] for entry in session.get_inputs()})[0])


class Awkward(nn.Module):
    """Counts an axis from the back, and has an operation that the tracing exporter does not know."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


@pytest.mark.parametrize("norm", [nn.LayerNorm(3), nn.RMSNorm(3)], ids=lambda norm: type(norm).__name__)
def test_the_fast_way_copes_with_what_its_exporter_gets_wrong(norm: nn.Module) -> None:
    x = torch.randn(2, 3, 4, 5)
    part = Awkward(norm)
    with torch.no_grad():
        expected = part(x).numpy()
    np.testing.assert_allclose(run(to_onnx_fast(part, (x,)), (x,)), expected, atol=1e-5)
