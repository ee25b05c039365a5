"""The gated MLP mixers against their equation, position by position in float64, and against their cost formula."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medsearch.blocks import MIXERS

EDGE = {"block_gmlp": "block", "grid_gmlp": "grid"}


def build(name: str, dim: int, dims: int, edge: int, **knobs: object) -> nn.Module:
    return MIXERS[name](dim, dims=dims, **{EDGE[name]: edge}, **knobs)


def spread(mixer: nn.Module) -> nn.Module:
    """Large random parameters, so that no term of the equation is too small to be seen."""
    generator = torch.Generator().manual_seed(0)
    for parameter in mixer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.7
    return mixer


def layer_norm(x: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + norm.eps)
    return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def linear(x: np.ndarray, layer: nn.Linear) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def groups(name: str, size: tuple[int, ...], edge: int) -> list[list[tuple[int, ...]]]:
    """The positions that are mixed with one another, in the order of the weights; some lie outside the map."""
    counts = [math.ceil(length / edge) for length in size]
    inside = list(itertools.product(range(edge), repeat=len(size)))
    if name == "block_gmlp":
        return [
            [tuple(b * edge + t for b, t in zip(block, token, strict=True)) for token in inside]
            for block in itertools.product(*map(range, counts))
        ]
    return [
        [tuple(t * step + o for t, step, o in zip(token, counts, offset, strict=True)) for token in inside]
        for offset in itertools.product(*map(range, counts))
    ]


def gated_mlp(name: str, mixer: nn.Module, x_SC: np.ndarray, edge: int) -> np.ndarray:
    """out = W2 (u * (v' + 1)); v'_s = sum_t W_st LN(v)_t + b_s over positions t of a group inside the map."""
    size = x_SC.shape[:-1]
    hidden = linear(layer_norm(x_SC, mixer.norm), mixer.expand)
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    u, v = np.split(hidden, 2, axis=-1)
    v = layer_norm(v, mixer.gate_norm)
    weight, bias = mixer.mix_TT.detach().numpy(), mixer.bias_T.detach().numpy()
    gate = np.full_like(u, np.nan)
    for positions in groups(name, size, edge):
        real = [(t, p) for t, p in enumerate(positions) if all(i < length for i, length in zip(p, size, strict=True))]
        for s, target in real:
            gate[target] = 1 + bias[s] + sum(weight[s, t] * v[source] for t, source in real)
    return linear(u * gate, mixer.project)


@pytest.mark.parametrize("name", EDGE)
@pytest.mark.parametrize(
    ("size", "edge"), [((4, 6), 2), ((5, 7), 3), ((2, 1), 4), ((4, 2, 6), 2), ((3, 2, 5), 2)], ids=str
)
def test_equals_the_equation_evaluated_position_by_position(name: str, size: tuple[int, ...], edge: int) -> None:
    mixer = spread(build(name, 5, len(size), edge, hidden=3).double())
    x_BCS = torch.randn(2, 5, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y_BSC = mixer(x_BCS).movedim(1, -1).detach().numpy()
    for image, y_SC in zip(x_BCS.movedim(1, -1).numpy(), y_BSC, strict=True):
        np.testing.assert_allclose(y_SC, gated_mlp(name, mixer, image, edge), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", EDGE)
def test_groups_of_the_reference_cover_each_position_once(name: str) -> None:
    covered = sorted(position for group in groups(name, (4, 6), 2) for position in group)
    assert covered == list(itertools.product(range(4), range(6)))


def reached(mixer: nn.Module, size: tuple[int, ...], position: tuple[int, ...]) -> set[tuple[int, ...]]:
    """The positions whose input moves the output at ``position``."""
    x_BCS = torch.randn(1, 4, *size, requires_grad=True, generator=torch.Generator().manual_seed(2))
    mixer(x_BCS)[(0, slice(None), *position)].sum().backward()
    return {tuple(index.tolist()) for index in x_BCS.grad[0].abs().sum(0).nonzero()}


def test_a_block_sees_its_neighbours_only() -> None:
    assert reached(spread(build("block_gmlp", 4, 2, 2)), (4, 6), (1, 4)) == {(0, 4), (0, 5), (1, 4), (1, 5)}


def test_a_grid_sees_the_whole_map_in_strides() -> None:
    assert reached(spread(build("grid_gmlp", 4, 2, 2)), (4, 6), (1, 4)) == {(1, 1), (1, 4), (3, 1), (3, 4)}


@pytest.mark.parametrize("name", EDGE)
def test_a_fresh_layer_gates_with_almost_one(name: str) -> None:
    torch.manual_seed(0)
    mixer = build(name, 16, 3, 8)
    x_BCS = torch.randn(1, 16, 8, 8, 8)
    u_BSH, _ = mixer.act(mixer.expand(mixer.norm(x_BCS.movedim(1, -1)))).chunk(2, dim=-1)
    ungated_BCS = mixer.project(u_BSH).movedim(-1, 1)
    difference = (mixer(x_BCS) - ungated_BCS).norm() / ungated_BCS.norm()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("name", EDGE)
@pytest.mark.parametrize(("dims", "edge"), [(2, 8), (2, 5), (3, 8), (3, 4)])
@pytest.mark.parametrize("knobs", [{}, {"ratio": 2.0}, {"hidden": 7}], ids=str)
def test_parameters_and_multiply_adds_follow_the_formula(
    name: str, dims: int, edge: int, knobs: dict[str, float]
) -> None:
    dim, batch, size = 12, 2, (16, 9, 8)[:dims]
    hidden = int(knobs.get("hidden", dim * knobs.get("ratio", 1)))
    with torch.device("meta"):
        mixer = build(name, dim, dims, edge, **knobs)
        with FlopCounterMode(display=False) as counter:
            mixer(torch.empty(batch, dim, *size))
    tokens = edge**dims
    norms = 2 * dim + 2 * hidden
    assert sum(p.numel() for p in mixer.parameters()) == (
        norms + 2 * hidden * (dim + 1) + tokens**2 + tokens + dim * (hidden + 1)
    )
    positions = math.prod(size)
    padded = math.prod(math.ceil(length / edge) * edge for length in size)
    macs = batch * hidden * (3 * dim * positions + tokens * padded)
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("name", EDGE)
@pytest.mark.parametrize("edge", [1, 0, -8, 2.0, True, "8"], ids=repr)
def test_a_wrong_edge_is_refused_with_the_nearest_legal_one(name: str, edge: object) -> None:
    with pytest.raises(ValueError, match=rf"{name}: {EDGE[name]} must be .* at least 2, got .*; try 2"):
        build(name, 4, 2, edge)


# The older exporter announces its own removal, and that it fixes the traced padding, which is what a fixed size means.
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
@pytest.mark.parametrize("name", EDGE)
@pytest.mark.parametrize("size", [(5, 6), (4, 3, 6)], ids=str)
def test_the_older_exporter_at_opset_17_gives_the_same_values(name: str, size: tuple[int, ...]) -> None:
    mixer = spread(build(name, 4, len(size), 2)).eval()
    file = io.BytesIO()
    traced_BCS = torch.randn(1, 4, *size)
    torch.onnx.export(
        mixer, (traced_BCS,), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes={"x": {0: "batch"}}
    )
    x_BCS: Tensor = torch.randn(3, 4, *size)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (y_BCS,) = session.run(None, {"x": x_BCS.numpy()})
    np.testing.assert_allclose(y_BCS, mixer(x_BCS).detach().numpy(), rtol=1e-4, atol=1e-4)
