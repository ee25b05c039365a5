"""Channel mixers against their equations, worked out here in double precision from the tensors alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medsearch.blocks import CHANNELS
from oracles import parameter_count

SIZES = [(5, 7), (3, 4, 5)]
SIZE_2D = SIZES[0]
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


def part_and_input(name: str, size: tuple[int, ...], dim: int = 6, **knobs: Any) -> tuple[nn.Module, Tensor]:
    """The part in double precision with no tensor at its starting value, and a random map."""
    part = CHANNELS[name](dim, dims=len(size), **knobs).double().eval()
    for parameter in part.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for norm in (module for module in part.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.3)
        norm.running_var.uniform_(0.5, 2.0)
    return part, torch.randn(2, dim, *size, dtype=torch.float64)


def across(vector_C: Tensor, x_BCS: Tensor) -> Tensor:
    return vector_C.reshape(-1, *[1] * (x_BCS.ndim - 2))


def layer_norm(norm: nn.LayerNorm, x_BCS: Tensor) -> Tensor:
    centred = x_BCS - x_BCS.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return normed * across(norm.weight, x_BCS) + across(norm.bias, x_BCS)


def batch_norm(norm: Any, x_BCS: Tensor) -> Tensor:
    normed = (x_BCS - across(norm.running_mean, x_BCS)) / (across(norm.running_var, x_BCS) + 1e-5).sqrt()
    return normed * across(norm.weight, x_BCS) + across(norm.bias, x_BCS)


def linear(layer: Any, x_BCS: Tensor) -> Tensor:
    y_BCS = torch.einsum("oc,bc...->bo...", layer.weight.flatten(1), x_BCS)
    return y_BCS if layer.bias is None else y_BCS + across(layer.bias, x_BCS)


def filtered(layer: Any, x_BCS: Tensor, inputs: int = 1) -> Tensor:
    """Output channel o: a window of the input channels inputs * o, inputs * o + 1, ..., zeros around the map."""
    kernel, size = layer.weight.shape[2], x_BCS.shape[2:]
    padded = nn.functional.pad(x_BCS, (kernel // 2,) * 2 * len(size))
    y_BCS = torch.zeros_like(x_BCS[:, : layer.weight.shape[0]])
    for offset in itertools.product(range(kernel), repeat=len(size)):
        window = tuple(slice(start, start + length) for start, length in zip(offset, size, strict=True))
        for i in range(inputs):
            weight_C = layer.weight[(slice(None), i, *offset)]
            y_BCS = y_BCS + across(weight_C, x_BCS) * padded[(slice(None), slice(i, None, inputs), *window)]
    return y_BCS if layer.bias is None else y_BCS + across(layer.bias, x_BCS)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def h_sigmoid(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


@every_size
@pytest.mark.parametrize("norm", ["layer", "batch", "batch_first"])
@torch.no_grad()
def test_mlp_is_two_layers_with_the_norm_where_it_is_said(size: tuple[int, ...], norm: str) -> None:
    part, x = part_and_input("mlp", size, ratio=2.5, norm=norm)
    if norm == "batch":
        hidden = batch_norm(part.norm, linear(part.expand, x))
    else:
        hidden = linear(part.expand, (layer_norm if norm == "layer" else batch_norm)(part.norm, x))
    assert hidden.shape[1] == 15
    torch.testing.assert_close(part(x), linear(part.project, gelu(hidden)))


@every_size
@pytest.mark.parametrize("norm", ["layer", "batch", "both"])
@torch.no_grad()
def test_conv_mlp_filters_its_hidden_channels(size: tuple[int, ...], norm: str) -> None:
    """Layer: PVTv2; both: SegFormer3D, a BatchNorm behind the filter whose bias it keeps."""
    part, x = part_and_input("conv_mlp", size, ratio=2.0, norm=norm)
    if norm == "batch":
        hidden = batch_norm(part.norm, linear(part.expand, x))
    else:
        hidden = linear(part.expand, layer_norm(part.norm, x))
    hidden = filtered(part.filter, hidden)
    hidden = hidden if norm == "layer" else batch_norm(part.filter_norm, hidden)
    assert (part.filter.bias is None) == (norm == "batch")
    torch.testing.assert_close(part(x), linear(part.project, gelu(hidden)))


GATES = {"silu": lambda x: x / (1 + (-x).exp()), "gelu": gelu, "relu": lambda x: x * (x > 0)}
GATES["sigmoid"] = lambda x: 1 / (1 + (-x).exp())


@every_size
@pytest.mark.parametrize("act", GATES)
@pytest.mark.parametrize("norm", ["layer", "batch"])
@torch.no_grad()
def test_gated_multiplies_values_by_gates(size: tuple[int, ...], act: str, norm: str) -> None:
    part, x = part_and_input("gated", size, act=act, norm=norm)
    hidden = linear(part.expand, layer_norm(part.norm, x)) if norm == "layer" else linear(part.expand, x)
    hidden = hidden if norm == "layer" else batch_norm(part.norm, hidden)
    assert hidden.shape[1] == 2 * 16, "8 / 3 of 6, twice"
    torch.testing.assert_close(part(x), linear(part.project, GATES[act](hidden[:, :16]) * hidden[:, 16:]))


@every_size
@pytest.mark.parametrize("norm", ["layer", "batch"])
@torch.no_grad()
def test_dbffn_crosses_the_halves_of_its_branches(size: tuple[int, ...], norm: str) -> None:
    part, x = part_and_input("dbffn", size, norm=norm)
    x_in = layer_norm(part.norm[0], x) if norm == "layer" else x
    hidden = batch_norm(part.expand_norm, linear(part.expand, batch_norm(part.norm[1], x_in)))
    near, far = gelu(filtered(part.near, hidden)), gelu(filtered(part.far, hidden))
    first = filtered(part.near_pair, torch.cat([near[:, :6], far[:, :6]], 1), inputs=2)
    second = filtered(part.far_pair, torch.cat([near[:, 6:], far[:, 6:]], 1), inputs=2)
    both = torch.cat([batch_norm(part.near_norm, first), batch_norm(part.far_norm, second)], 1)
    torch.testing.assert_close(part(x), batch_norm(part.project_norm, linear(part.project, both)))
    assert part.near.kernel_size[0] == 3 and part.far.kernel_size[0] == 7


def bumps_summed(layer: Any, x_BCS: Tensor, bumps: int) -> Tensor:
    normed = layer_norm(layer.norm, x_BCS)
    y = torch.zeros(())
    for g in range(bumps):
        place = -2 + 4 * g / (bumps - 1)
        bump = 1 - torch.tanh((normed - place) / 0.33) ** 2
        y = y + torch.einsum("oc,bc...->bo...", layer.weight_GOC[g], bump)
    return y


@every_size
@pytest.mark.parametrize(("bumps", "norm"), [(8, "layer"), (8, "batch"), (3, "layer")])
@torch.no_grad()
def test_kan_sums_learned_functions_of_every_channel(size: tuple[int, ...], bumps: int, norm: str) -> None:
    part, x = part_and_input("kan", size, bumps=bumps, norm=norm)
    hidden = bumps_summed(part.expand, x if norm == "layer" else batch_norm(part.norm, x), bumps)
    torch.testing.assert_close(part(x), bumps_summed(part.project, hidden, bumps))


def test_kan_keeps_no_more_for_more_bumps_and_trains_the_same() -> None:
    """What autograd keeps beyond weights, and the gradients with and without making the bumps again."""
    kept = []
    for bumps in (2, 16):
        part = CHANNELS["kan"](6, dims=2, bumps=bumps).double()
        weights = {parameter.untyped_storage().data_ptr() for parameter in part.parameters()}
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        x = torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            y = part.train()(x)
        kept.append(sum(size for place, size in sizes.items() if place not in weights))
        y.square().sum().backward()
        again = part.eval()(x.detach())
        trained = [parameter.grad.clone() for parameter in part.parameters()]
        part.zero_grad()
        again.square().sum().backward()
        for parameter, gradient in zip(part.parameters(), trained, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert kept[0] == kept[1]


@every_size
@pytest.mark.parametrize(("norm", "shortcut"), [("batch", False), ("layer", True)])
@torch.no_grad()
def test_locality_gates_hidden_channels_by_the_mean_of_the_map(
    size: tuple[int, ...], norm: str, shortcut: bool
) -> None:
    part, x = part_and_input("locality", size, kernel=5, norm=norm, shortcut=shortcut)
    x_in = (batch_norm if norm == "batch" else layer_norm)(part.norm, x)
    hidden = batch_norm(part.expand_norm, linear(part.expand, x_in))
    hidden = batch_norm(part.filter_norm, filtered(part.filter, hidden * h_sigmoid(hidden)))
    hidden = hidden * h_sigmoid(hidden)
    mean = hidden.flatten(2).mean(2)
    squeezed = (mean @ part.squeeze.weight.T + part.squeeze.bias).clamp_min(0)
    gate = h_sigmoid(squeezed @ part.excite.weight.T + part.excite.bias)
    assert squeezed.shape[1] == 3 and hidden.shape[1] == 18
    gated = hidden * gate.reshape(2, 18, *[1] * len(size))
    y = batch_norm(part.project_norm, linear(part.project, gated))
    torch.testing.assert_close(part(x), x_in + y if shortcut else y)


@every_size
def test_none_adds_nothing(size: tuple[int, ...]) -> None:
    part, x = part_and_input("none", size)
    assert not part(x).any()
    assert not list(part.parameters())


PUBLISHED = [
    # TCSAFormer's first stage, LayerNorm included: 4 C^2 + 4 C (9 + 49) + 12 C + 2 C at C = 64
    ("dbffn", 64, {}, 4 * 4096 + 232 * 64 + 14 * 64),
    # MedViTV2-S, third stage: BatchNorm 2 C; two LayerNorms and 8 functions each way between 256 and 512
    ("kan", 256, {"norm": "batch"}, 512 + 512 + 1024 + 2 * 8 * 256 * 512),
    # MedViTV2, first stage: BatchNorm, 64 -> 192, three norms, 7 x 7, gates 192 -> 3 -> 192 with biases
    (
        "locality",
        64,
        {"norm": "batch", "kernel": 7},
        128 + 2 * 64 * 192 + 2 * 384 + 128 + 49 * 192 + 192 * 3 + 3 + 3 * 192 + 192,
    ),
    # PVTv2-B1, first stage (ratio 8), and SegFormer3D's (ratio 4 in 3D, a BatchNorm more), each with its LayerNorm
    ("conv_mlp", 64, {"ratio": 8.0}, 128 + 64 * 512 + 512 + 9 * 512 + 512 + 512 * 64 + 64),
    (
        "conv_mlp",
        32,
        {"ratio": 4.0, "norm": "both", "dims": 3},
        64 + 32 * 128 + 128 + 27 * 128 + 128 + 256 + 128 * 32 + 32,
    ),
]


@pytest.mark.parametrize(("name", "dim", "knobs", "expected"), PUBLISHED)
def test_has_as_many_weights_as_the_published_part(name: str, dim: int, knobs: dict[str, Any], expected: int) -> None:
    part = CHANNELS[name](dim, **{"dims": 2, **knobs})
    assert parameter_count(part) == sum(parameter.numel() for parameter in part.parameters()) == expected


@every_size
@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("mlp", {"norm": "batch_first"}),
        ("conv_mlp", {"norm": "both"}),
        ("gated", {"norm": "layer"}),
        ("gated", {"norm": "batch"}),
        ("locality", {"norm": "batch"}),
    ],
)
@torch.no_grad()
def test_hidden_channels_can_be_cut(size: tuple[int, ...], name: str, knobs: dict[str, Any]) -> None:
    """With what made a channel gone, and its gates, so is all that it adds; fewer channels say the same."""
    part, x = part_and_input(name, size, hidden=10, **knobs)
    smaller = CHANNELS[name](6, dims=len(size), hidden=4, **knobs).double().eval()
    group, chosen = part.groups()["hidden"], torch.tensor([0, 3, 4, 8])
    state = dict(part.state_dict())
    for axis in (*group.made, group.read):
        for key in (key for key in state if key == axis.name or key.startswith(f"{axis.name}.")):
            if state[key].ndim > axis.axis:
                state[key] = state[key].index_select(axis.axis, axis.entries(10, chosen))
    smaller.load_state_dict(state)
    silent = torch.ones(10, dtype=torch.bool)
    silent[chosen] = False
    part.project.weight[:, silent] = 0
    if name == "locality":
        part.squeeze.weight[:, silent] = 0
    torch.testing.assert_close(smaller(x), part(x))


@pytest.mark.parametrize(
    ("name", "knobs", "remedy"),
    [
        ("mlp", {"norm": "group"}, "try 'layer'"),
        ("gated", {"act": "tanh"}, "try 'silu'"),
        ("gated", {"ratio": 0.0}, "try ratio 2.0"),
        ("dbffn", {"kernel": 6}, "try 7"),
        ("kan", {"bumps": 1}, "try 2"),
        ("kan", {"bumps": True}, "try 2"),
        ("locality", {"shortcut": 1}, "try true"),
        ("locality", {"squeeze": 0}, "try 1"),
    ],
)
def test_a_wrong_knob_is_refused_with_a_remedy(name: str, knobs: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy) as refused:
        CHANNELS[name](6, dims=2, **knobs)
    assert name in str(refused.value)
