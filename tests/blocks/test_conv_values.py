"""Convolutional mixers and controls against their equations, worked out here in double precision from the tensors."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from oracles import parameter_count

SIZES = [(5, 7), (1, 6), (3, 4, 5)]
every_size = pytest.mark.parametrize("size", SIZES, ids=str)


def part_and_input(name: str, size: tuple[int, ...], dim: int = 6, **knobs: Any) -> tuple[Any, Tensor]:
    """The part in double precision with no tensor at its starting value, and a random map."""
    part = MIXERS[name](dim, dims=len(size), **knobs).double().eval()
    for parameter in part.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for norm in (module for module in part.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.3)
        norm.running_var.uniform_(0.5, 2.0)
    return part, torch.randn(2, dim, *size, dtype=torch.float64)


def across(vector_C: Tensor, x_BCS: Tensor) -> Tensor:
    return vector_C.reshape(-1, *[1] * (x_BCS.ndim - 2))


def normed(norm: Any, x_BCS: Tensor) -> Tensor:
    """Over the channels, by the statistics of training, or over the positions of every channel: by the norm's kind."""
    if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
        mean, variance = across(norm.running_mean, x_BCS), across(norm.running_var, x_BCS)
    else:
        axes = 1 if isinstance(norm, nn.LayerNorm) else tuple(range(2, x_BCS.ndim))
        mean = x_BCS.mean(axes, keepdim=True)
        variance = (x_BCS - mean).square().mean(axes, keepdim=True)
    return (x_BCS - mean) / (variance + 1e-5).sqrt() * across(norm.weight, x_BCS) + across(norm.bias, x_BCS)


def moved(x_BCS: Tensor, offset: tuple[int, ...]) -> Tensor:
    """What lies ``offset`` positions further at every position, zero where that is off the map."""
    y_BCS = torch.zeros_like(x_BCS)
    for place in itertools.product(*map(range, x_BCS.shape[2:])):
        source = [p + o for p, o in zip(place, offset, strict=True)]
        if all(0 <= s < length for s, length in zip(source, x_BCS.shape[2:], strict=True)):
            y_BCS[(..., *place)] = x_BCS[(..., *source)]
    return y_BCS


def convolved(layer: Any, x_BCS: Tensor, gaps: tuple[int, ...] = (1, 1, 1)) -> Tensor:
    """Dense or depthwise, by the shape of the weight: a sum over the offsets of the window."""
    weight = layer.weight
    kernel = weight.shape[2:] or (1,) * (x_BCS.ndim - 2)
    y_BCS = torch.zeros_like(x_BCS[:, :1])
    for offset in itertools.product(*map(range, kernel)):
        steps = [gap * (o - edge // 2) for gap, o, edge in zip(gaps, offset, kernel, strict=False)]
        tap = weight[(..., *offset)] if weight.ndim > 2 else weight
        source = moved(x_BCS, tuple(steps))
        dense = tap.shape[1] == x_BCS.shape[1]
        y_BCS = y_BCS + (torch.einsum("oc,bc...->bo...", tap, source) if dense else across(tap[:, 0], source) * source)
    return y_BCS if layer.bias is None else y_BCS + across(layer.bias, x_BCS)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


@every_size
@pytest.mark.parametrize("norm", ["batch", "none"])
@torch.no_grad()
def test_dwconv_is_a_sum_over_its_window(size: tuple[int, ...], norm: str) -> None:
    part, x = part_and_input("dwconv", size, kernel=3, norm=norm)
    expected = convolved(part.filter, x)
    torch.testing.assert_close(part(x), normed(part.norm, expected) if norm == "batch" else expected)


@pytest.mark.parametrize(
    ("size", "kernel", "dilation", "gaps"),
    [
        ((7, 9), 3, 2, (2, 2)),
        ((7, 9), "1x5", "3x2", (3, 2)),
        ((4, 7, 6), "1x3x5", 1, (1, 1, 1)),
        ((4, 7, 6), 3, "1x3x2", (1, 3, 2)),
    ],
)
@torch.no_grad()
def test_dwconv_takes_its_window_and_its_gaps_per_axis(
    size: tuple[int, ...], kernel: int | str, dilation: int | str, gaps: tuple[int, ...]
) -> None:
    part, x = part_and_input("dwconv", size, kernel=kernel, norm="none", dilation=dilation)
    torch.testing.assert_close(part(x), convolved(part.filter, x, gaps))


@torch.no_grad()
def test_dwconv_of_one_edge_is_the_plain_layer_with_its_tensors_and_its_start() -> None:
    torch.manual_seed(3)
    part = MIXERS["dwconv"](6, dims=2, kernel=13, norm="none")
    torch.manual_seed(3)
    plain = nn.Conv2d(6, 6, 13, padding=6, groups=6)
    x = torch.randn(2, 6, 9, 20)
    assert set(part.state_dict()) == {"filter.weight", "filter.bias"}
    assert torch.equal(part(x), plain(x))


@every_size
@torch.no_grad()
def test_local_concentration_filters_twice(size: tuple[int, ...]) -> None:
    part, x = part_and_input("local_concentration", size, kernel=3)
    between = normed(part.filter_norm, gelu(convolved(part.filter, normed(part.norm, x))))
    torch.testing.assert_close(part(x), convolved(part.refilter, between))


@every_size
@pytest.mark.parametrize("hidden", [None, 4])
@torch.no_grad()
def test_separable_conv_has_no_activation(size: tuple[int, ...], hidden: int | None) -> None:
    part, x = part_and_input("separable_conv", size, kernel=3, hidden=hidden)
    expected = convolved(part.project, convolved(part.filter, convolved(part.expand, normed(part.norm, x))))
    torch.testing.assert_close(part(x), expected)


@every_size
@pytest.mark.parametrize(("se", "after"), [(0, "none"), (0, "gelu"), (2, "none")])
@torch.no_grad()
def test_mbconv_widens_filters_gates_and_narrows(size: tuple[int, ...], se: int, after: str) -> None:
    part, x = part_and_input("mbconv", size, ratio=1.5, se=se, after=after)
    hidden = gelu(normed(part.expand_norm, convolved(part.expand, x)))
    hidden = gelu(normed(part.filter_norm, convolved(part.filter, hidden)))
    if se:
        mean = hidden.flatten(2).mean(2).reshape(2, 9, *[1] * len(size))
        hidden = hidden * torch.sigmoid(convolved(part.excite, gelu(convolved(part.squeeze, mean))))
    y = normed(part.project_norm, convolved(part.project, hidden))
    torch.testing.assert_close(x + part(x), gelu(x + y) if after == "gelu" else x + y)


@every_size
@pytest.mark.parametrize(("order", "widths"), [(1, [12]), (2, [6, 12]), (3, [3, 6, 12]), (4, [1, 3, 6, 12])])
@torch.no_grad()
def test_gnconv_multiplies_as_often_as_its_order_says(size: tuple[int, ...], order: int, widths: list[int]) -> None:
    part, x = part_and_input("gnconv", size, dim=12, order=order, kernel=3, scale=0.5)
    split = convolved(part.split, normed(part.norm, x))
    p, q = split[:, : widths[0]], 0.5 * convolved(part.filter, split[:, widths[0] :])
    assert q.shape[1] == sum(widths)
    for step, width in enumerate(widths):
        p = (convolved(part.widen[step - 1], p) if step else p) * q[:, sum(widths[:step]) :][:, :width]
    torch.testing.assert_close(part(x), convolved(part.project, p))


@every_size
@pytest.mark.parametrize(("norm", "after"), [("batch", "none"), ("instance", "none"), ("batch", "leaky_relu")])
@torch.no_grad()
def test_conv_block_is_two_dense_layers(size: tuple[int, ...], norm: str, after: str) -> None:
    part, x = part_and_input("conv_block", size, hidden=5, norm=norm, after=after)
    hidden = normed(part.expand_norm, convolved(part.expand, x))
    y = normed(part.project_norm, convolved(part.project, torch.where(hidden > 0, hidden, hidden / 100)))
    total = torch.where(x + y > 0, x + y, (x + y) / 100) if after == "leaky_relu" else x + y
    torch.testing.assert_close(x + part(x), total)


@pytest.mark.parametrize(
    ("size", "kernel", "edges"),
    [((5, 7), 3, (3, 3)), ((1, 6), 5, (5, 5)), ((3, 4, 5), 3, (3, 3, 3)), ((2, 4, 5), "5x1x3", (5, 1, 3))],
)
@torch.no_grad()
def test_pooling_averages_what_is_on_the_map(size: tuple[int, ...], kernel: int | str, edges: tuple[int, ...]) -> None:
    part, x = part_and_input("pooling", size, kernel=kernel)
    u, y = normed(part.norm, x), part(x)
    for place in itertools.product(*map(range, size)):
        window = tuple(slice(max(0, p - edge // 2), p + edge // 2 + 1) for p, edge in zip(place, edges, strict=True))
        mean = u[(..., *window)].flatten(2).mean(2)
        torch.testing.assert_close(y[(..., *place)], mean - u[(..., *place)])


@every_size
@torch.no_grad()
def test_identity_leaves_the_residual_stream_as_it_is(size: tuple[int, ...]) -> None:
    part, x = part_and_input("identity", size)
    assert torch.equal(x + part(x), x)


@pytest.mark.parametrize(
    ("name", "dim", "knobs", "weights"),
    [
        # HRMedSeg of width 96: 1 x 1 twice, 3 x 3, and two numbers for each channel of three norms.
        ("mbconv", 96, {"ratio": 2.0, "after": "gelu"}, 2 * 96 * 192 + 9 * 192 + 2 * (192 + 192 + 96)),
        # MSLAU-Net, first stage: two square matrices, 5 x 5, three biases and a norm.
        ("separable_conv", 64, {}, 2 * 64 * 64 + 25 * 64 + 3 * 64 + 2 * 64),
        # L2ViT-T, first stage: 7 x 7 twice with biases, two norms.
        ("local_concentration", 96, {}, 2 * 49 * 96 + 2 * 96 + 4 * 96),
        # HorNet-T, second stage: C = 128, widths 32, 64, 128, all layers with a bias, one norm.
        ("gnconv", 128, {}, 2 * 128 + 129 * 256 + 50 * 224 + 33 * 64 + 65 * 128 + 129 * 128),
        # ResNet-18, first stage: two dense 3 x 3 layers and two norms.
        ("conv_block", 64, {"after": "leaky_relu"}, 2 * (9 * 64 * 64 + 2 * 64)),
    ],
)
def test_counts_are_those_of_the_published_blocks(name: str, dim: int, knobs: dict[str, Any], weights: int) -> None:
    part = MIXERS[name](dim, dims=2, **knobs)
    assert sum(parameter.numel() for parameter in part.parameters()) == parameter_count(part) == weights


@pytest.mark.parametrize("size", [(5, 7), (3, 4, 5)], ids=str)
@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("mbconv", {}),
        ("mbconv", {"se": 2}),
        ("separable_conv", {}),
        ("conv_block", {}),
        ("conv_block", {"norm": "instance"}),
    ],
)
@torch.no_grad()
def test_hidden_channels_can_be_cut(size: tuple[int, ...], name: str, knobs: dict[str, Any]) -> None:
    """With what reads a channel silent, the part says what it says without the channel."""
    part, x = part_and_input(name, size, hidden=10, **knobs)
    smaller = MIXERS[name](6, dims=len(size), hidden=4, **knobs).double().eval()
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
    if "se" in knobs:
        part.squeeze.weight[:, silent] = 0
    torch.testing.assert_close(smaller(x), part(x))


@pytest.mark.parametrize(
    ("name", "knobs", "remedy"),
    [
        ("dwconv", {"kernel": 4}, "got 4; try 5"),
        ("dwconv", {"kernel": "3x4"}, "got 4; try 5"),
        ("dwconv", {"dilation": 0}, "dilation must be .* got 0; try 1"),
        ("dwconv", {"norm": "layer"}, "try 'batch'"),
        ("local_concentration", {"kernel": 6}, "try 7"),
        ("separable_conv", {"hidden": 0}, "try ratio"),
        ("mbconv", {"se": 13}, "got 13; try 12"),
        ("mbconv", {"se": True}, "got True; try 0"),
        ("mbconv", {"after": "relu"}, "try 'none'"),
        ("gnconv", {"order": 5}, "12 channels, got 5; try 4"),
        ("gnconv", {"scale": 0.0}, "got 0.0; try 1.0"),
        ("gnconv", {"scale": True}, "got True; try 1.0"),
        ("pooling", {"kernel": 2}, "try 3"),
        ("conv_block", {"norm": "layer"}, "try 'batch'"),
        ("conv_block", {"after": "relu"}, "try 'none'"),
    ],
)
def test_a_wrong_knob_is_refused_with_what_would_be_right(name: str, knobs: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        MIXERS[name](12, dims=2, **knobs)
