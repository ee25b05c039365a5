"""Linear attention, its multi-scale form and retention against their equations: every pair of positions, in float64."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.linear_kernels import KERNELS, linear_product
from oracles import macs, parameter_count


def build(name: str, dim: int, dims: int, **knobs: object) -> nn.Module:
    """A mixer in float64 whose every parameter, also those that start at 0 or 1, has a value of its own."""
    torch.manual_seed(0)
    mixer = MIXERS[name](dim, dims=dims, **knobs).double().eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return mixer


def places(size: tuple[int, ...]) -> Tensor:
    """(N, axes): where every position is."""
    return torch.tensor(list(product(*(range(length) for length in size))), dtype=torch.float64)


def normed(norm: nn.LayerNorm, x_NC: Tensor) -> Tensor:
    x_NC = x_NC - x_NC.mean(1, keepdim=True)
    return x_NC / (x_NC.square().mean(1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def layer(linear: nn.Linear, x_NC: Tensor) -> Tensor:
    return x_NC @ linear.weight.T + (0 if linear.bias is None else linear.bias)


def filtered(conv: nn.Module, x_NC: Tensor, size: tuple[int, ...]) -> Tensor:
    convolve = F.conv2d if len(size) == 2 else F.conv3d
    edge = conv.weight.shape[-1] // 2
    y = convolve(x_NC.T.reshape(1, -1, *size), conv.weight, conv.bias, padding=edge, groups=x_NC.shape[1])
    return y.reshape(x_NC.shape[1], -1).T


def turned(x_NHD: Tensor, size: tuple[int, ...]) -> Tensor:
    """Pairs of channels as complex numbers, turned by place times speed, each axis its share of all pairs."""
    count, heads, width = x_NHD.shape
    z_NP = torch.view_as_complex(x_NHD.reshape(count, -1, 2).contiguous())
    each = z_NP.shape[1] // len(size)
    for pair in range(z_NP.shape[1]):
        angle_N = places(size)[:, pair // each] * 10000 ** (-(pair % each) / each)
        z_NP[:, pair] *= torch.polar(torch.ones_like(angle_N), angle_N)
    return torch.view_as_real(z_NP).reshape(count, heads, width)


def weights(mixer: nn.Module, q_NHD: Tensor, k_NHD: Tensor, size: tuple[int, ...]) -> Tensor:
    """(H, N, M): how much of the values of M every position N reads."""
    softmax = {"efficient": (2, 0), "swapped": (0, 2)}
    if mixer.kernel in softmax:
        over_q, over_k = softmax[mixer.kernel]
        return torch.einsum("nhd,mhd->hnm", q_NHD.softmax(over_q), k_NHD.softmax(over_k))
    positive = {"elu1": lambda x: torch.where(x > 0, x + 1, x.exp()), "relu": lambda x: x.clamp(min=0)}
    q_NHD, k_NHD = (positive[mixer.kernel](x) for x in (q_NHD, k_NHD))
    total_HN1 = torch.einsum("nhd,mhd->hn", q_NHD, k_NHD).unsqueeze(-1)
    if mixer.rotary:
        q_NHD, k_NHD = turned(q_NHD, size), turned(k_NHD, size)
    pairs_HNM = torch.einsum("nhd,mhd->hnm", q_NHD, k_NHD)
    if mixer.kernel == "relu":
        return pairs_HNM * mixer.temperature[:, None, None] / total_HN1.clamp(min=100)
    return pairs_HNM / (total_HN1 + len(k_NHD) * 1e-6)


def left(project: nn.Module, y_NC: Tensor, x_NC: Tensor, v_NC: Tensor, size: tuple[int, ...]) -> Tensor:
    if project.local is not None:
        y_NC = y_NC + filtered(project.local, v_NC, size)
    if project.gate is not None:
        gate = layer(project.gate, x_NC)
        y_NC = y_NC * gate / (1 + (-gate).exp())
    return layer(project.out, y_NC)


def linear_reference(mixer: nn.Module, x_NC: Tensor, size: tuple[int, ...]) -> Tensor:
    project, (heads, width, _) = mixer.project, mixer.project.shape
    x_NC = normed(project.norm, x_NC)
    if isinstance(project.v, nn.Sequential):
        hidden = layer(project.v[0], x_NC)
        v_NC = layer(project.v[2], hidden / (1 + (-hidden).exp()))
    else:
        v_NC = layer(project.v, x_NC)
    q, k, v = (part.reshape(-1, heads, width) for part in (layer(project.q, x_NC), layer(project.k, x_NC), v_NC))
    y_NC = torch.einsum("hnm,mhd->nhd", weights(mixer, q, k, size), v).flatten(1)
    return left(project, y_NC, x_NC, v_NC, size)


def multiscale_reference(mixer: nn.Module, x_NC: Tensor, size: tuple[int, ...]) -> Tensor:
    joined = []
    groups = normed(mixer.norm, x_NC).chunk(len(mixer.edges), dim=1)
    for scale, share, group in zip(mixer.scales, mixer.share, groups, strict=True):
        seen = (filtered(scale.filter, group, size) + group).clamp(min=0)
        q, k, v = layer(mixer.qkv, seen).reshape(-1, 3, mixer.heads, mixer.head_dim).unbind(1)
        y = torch.einsum("nhd,mhd,mhe->nhe", q.softmax(0), k.softmax(2), v).flatten(1)
        joined.append(share * layer(mixer.proj, y))
    return layer(mixer.join, torch.cat(joined, 1))


def retention_reference(mixer: nn.Module, x_NC: Tensor, size: tuple[int, ...], *, decay: int) -> Tensor:
    project, (heads, width, _) = mixer.project, mixer.project.shape
    x_NC = normed(project.norm, x_NC)
    q, k, v = (layer(each, x_NC).reshape(-1, heads, width) for each in (project.q, project.k, project.v))
    apart_NMA = (places(size)[:, None] - places(size)).abs()
    keep_H11 = 1 - 2.0 ** -(decay + torch.arange(heads).double())[:, None, None]
    pairs_HNM = torch.einsum("nhd,mhd->hnm", q, k) / width**0.5
    y_NHD = v
    for axis in reversed(range(len(size))) if mixer.form == "axial" else [None]:
        decay_HNM = keep_H11 ** apart_NMA.sum(2)
        if axis is not None:
            decay_HNM = decay_HNM * (apart_NMA.sum(2) == apart_NMA[..., axis])
        decay_HNM = decay_HNM / decay_HNM.sum(2, keepdim=True)
        y_NHD = torch.einsum("hnm,mhd->nhd", pairs_HNM * decay_HNM, y_NHD)
    y_NHD = y_NHD - y_NHD.mean(2, keepdim=True)
    y_NC = (y_NHD / (y_NHD.square().mean(2, keepdim=True) + 1e-5).sqrt()).flatten(1)
    return left(project, y_NC * mixer.gain + mixer.offset, x_NC, v.flatten(1), size)


def both(
    mixer: nn.Module, dim: int, size: tuple[int, ...], reference: object, **given: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the mixer makes of two images, and what the reference makes of each, (B, N, C)."""
    x_BCS = torch.randn(2, dim, *size, dtype=torch.float64)
    with torch.no_grad():
        found_BNC = mixer(x_BCS).reshape(2, dim, -1).transpose(1, 2)
        expected = [reference(mixer, x_CS.reshape(dim, -1).T, size, **given) for x_CS in x_BCS]
    return found_BNC, torch.stack(expected)


LINEAR = [
    ((3, 5), {"heads": 2, "head_dim": 4}),
    ((9, 7), {"heads": 2, "head_dim": 4, "kernel": "relu"}),
    ((2, 3), {"heads": 2, "head_dim": 4, "kernel": "relu", "local": 0}),
    ((4, 5), {"heads": 2, "kernel": "efficient", "head_dim": 3, "bias": False}),
    ((4, 5), {"heads": 2, "kernel": "swapped", "head_dim": 3, "gate": True}),
    ((5, 4), {"heads": 3, "head_dim": 4, "gate": True, "value_bottleneck": 4, "rotary": True}),
    ((3, 2, 4), {"heads": 1, "head_dim": 12, "kernel": "relu", "rotary": True, "bias": False}),
    ((3, 2, 4), {"heads": 3, "head_dim": 4, "rotary": True, "value_bottleneck": 3, "bias": False}),
]


@pytest.mark.parametrize(("size", "knobs"), LINEAR)
def test_linear_attention_equals_its_equation(size, knobs):
    found_BNC, expected_BNC = both(build("linear_attention", 12, len(size), **knobs), 12, size, linear_reference)
    torch.testing.assert_close(found_BNC, expected_BNC, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("size", "knobs"),
    [
        ((5, 7), {}),
        ((5, 7), {"heads": 2, "head_dim": 2, "kernels": "1-3"}),
        ((3, 4, 5), {"head_dim": 2}),
        ((1, 1), {"kernels": "5"}),
    ],
)
def test_multiscale_linear_attention_equals_its_equation(size, knobs):
    found_BNC, expected_BNC = both(
        build("multiscale_linear_attention", 16, len(size), **knobs), 16, size, multiscale_reference
    )
    torch.testing.assert_close(found_BNC, expected_BNC, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("form", ["axial", "full"])
@pytest.mark.parametrize(
    ("size", "knobs"), [((5, 4), {"heads": 3, "head_dim": 4}), ((3, 2, 4), {"local": 0}), ((6, 1), {"bias": False})]
)
def test_retention_equals_its_equation(size, knobs, form):
    mixer = build("retention", 8, len(size), form=form, decay=1, **knobs)
    found_BNC, expected_BNC = both(mixer, 8, size, retention_reference, decay=1)
    torch.testing.assert_close(found_BNC, expected_BNC, rtol=1e-6, atol=1e-8)


def test_the_first_heads_of_retention_forget_sooner():
    mixer = build("retention", 8, 2, heads=2, head_dim=4)
    near_far = mixer._decay(40)[:, 0, [1, 39]]
    assert torch.allclose(near_far[:, 1] / near_far[:, 0], torch.tensor([1 - 2**-5, 1 - 2**-6]).double() ** 38)
    assert mixer._decay(40).sum(2).allclose(torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-3), (torch.bfloat16, 4e-3)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_half_precision_holds_over_65536_positions(kernel, dtype, tolerance, scale):
    """Where sums over the keys overflow, or softmax weights lie below the normal range of float16."""
    torch.manual_seed(0)
    q, k = (scale * torch.randn(2, 1, 1, 65_536, 32)).to(dtype)
    v = (torch.randn(1, 1, 65_536, 32) + 0.5).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = linear_product(kernel, q, k, v)
    q, k = q.double(), k.double()
    if kernel in ("efficient", "swapped"):
        q, k = (q.softmax(-1), k.softmax(-2)) if kernel == "efficient" else (q.softmax(-2), k.softmax(-1))
        expected = q @ (k.mT @ v.double())
    else:
        q, k = (torch.where(x > 0, x + 1, x.exp()) if kernel == "elu1" else x.relu() for x in (q, k))
        total = q @ k.sum(-2).unsqueeze(-1)
        expected = q @ (k.mT @ v.double()) / (total.clamp(min=100) if kernel == "relu" else total)
    assert seen.dtype == dtype
    assert (seen - expected).norm() / expected.norm() < tolerance


def block(dim: int, name: str, **knobs: object) -> int:
    return parameter_count(MIXERS[name](dim, dims=2, **knobs))


def test_lgvit_has_its_published_number_of_parameters():
    # A 16 x 16 patch to C = 96; two MBConv of ratio 2 without biases; then blocks with LayerNorm and an MLP of ratio 2.
    dim = 96
    total = 16 * 16 * 3 * dim + dim + 2 * (2 * dim * 2 * dim + 9 * 2 * dim + 2 * (2 * 2 * dim) + 2 * dim)
    for depth, heads in ((2, 6), (6, 12), (2, 24)):
        knobs = {"heads": heads, "head_dim": dim // heads, "gate": True, "value_bottleneck": 4, "rotary": True}
        total += depth * (block(dim, "linear_attention", **knobs) + 2 * dim + 4 * dim**2 + 3 * dim)
    assert total == 957_648


def test_l2vit_tiny_has_its_published_number_of_parameters():
    # Two 3 x 3 stem convolutions with BatchNorm and a LayerNorm; LayerNorm and 2 x 2 convolutions between stages; a
    # LayerNorm and 1000 classes.  Blocks: window attention without offsets and two positional 3 x 3 depthwise
    # convolutions, or linear attention, one of those and two 7 x 7 with BatchNorm and LayerNorm; and an MLP of ratio 4.
    total = (27 * 48 + 3 * 48) + (9 * 48 * 96 + 3 * 96) + 2 * 96 + 2 * 768 + 769_000
    for dim, depth, heads in ((96, 2, 3), (192, 2, 6), (384, 6, 12), (768, 2, 24)):
        mlp = 8 * dim**2 + 7 * dim
        window = block(dim, "window_attention", heads=heads, position="none") + 2 * 10 * dim
        linear = block(dim, "linear_attention", heads=heads, kernel="relu", local=0) + 10 * dim + 104 * dim
        total += depth // 2 * (window + linear + 2 * mlp)
        total += 0 if dim == 96 else dim + 4 * (dim // 2) * dim + dim
    assert total == 28_596_781


def test_multiscale_linear_attention_has_the_published_number_of_parameters():
    # The mixer of MSLAU-Net's third stage: C = 256, four heads, with its LayerNorm.
    filters = sum(k * k + 1 for k in (3, 5, 7, 9)) * 64
    shared = 3 * 64 * 64 + 64 * 64 + 64
    assert block(256, "multiscale_linear_attention") == 512 + filters + shared + 4 + 256 * 256 + 256
    assert MIXERS["multiscale_linear_attention"](256, dims=2).heads == 4


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("linear_attention", {"kernel": "softmax"}, "linear_attention: kernel must be one of 'elu1'.*; try 'elu1'"),
        ("linear_attention", {"value_bottleneck": 13}, "value_bottleneck must be at most 12, got 13; try 12"),
        ("linear_attention", {"rotary": True, "heads": 2, "head_dim": 3}, "got 2 heads of 3; try head_dim 4"),
        ("linear_attention", {"rotary": True, "heads": 1, "head_dim": 6}, "got 1 heads of 6; try head_dim 8"),
        ("linear_attention", {"rotary": 1}, "rotary must be true or false, got 1"),
        ("multiscale_linear_attention", {"kernels": "3-4"}, "kernels must be odd .* got '3-4'; try '3-5-7-9'"),
        ("multiscale_linear_attention", {"kernels": "3-3-3-3-3"}, "a multiple of its 5 kernels, got 12; try 15"),
        ("retention", {"form": "2d"}, "retention: form must be one of 'axial', 'full', got '2d'; try 'axial'"),
        ("retention", {"decay": 0}, "retention: decay must be .* at least 1, got 0; try 1"),
    ],
)
def test_a_wrong_knob_is_refused_with_a_right_one(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        MIXERS[name](12, dims=2, **knobs)


@pytest.mark.parametrize(
    ("name", "knobs"),
    [
        ("linear_attention", {"kernel": "relu", "gate": True, "value_bottleneck": 2}),
        ("retention", {}),
        ("multiscale_linear_attention", {"kernels": "3-5"}),
    ],
)
def test_a_head_that_is_cut_out_is_as_one_whose_values_are_lost(name, knobs):
    """Also where a head has something of its own beside its rows: a factor, a decay, a norm."""
    mixer, keep = build(name, 8, 2, heads=3, head_dim=4, **knobs), torch.tensor([0, 2])
    (group,) = mixer.groups().values()
    state = {key: tensor.clone() for key, tensor in mixer.state_dict().items()}
    for axis in (*group.made, group.read):
        for key in [key for key in state if key == axis.name or key.startswith(f"{axis.name}.")]:
            if state[key].ndim > axis.axis:
                state[key] = state[key].index_select(axis.axis, axis.entries(3, keep))
    cut = MIXERS[name](8, dims=2, heads=2, head_dim=4, **knobs).double().eval()
    cut.load_state_dict(state)
    x_BCHW = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        mixer.get_parameter(group.read.name).reshape(-1, 3, 4)[:, 1] = 0
        torch.testing.assert_close(cut(x_BCHW), mixer(x_BCHW))


def test_turning_heads_cannot_be_cut_out():
    assert build("linear_attention", 12, 2, rotary=True, heads=3, head_dim=4).groups() == {}


def test_the_cost_of_a_narrow_value_is_what_it_says():
    plain, narrow = (build("linear_attention", 16, 2, head_dim=8, value_bottleneck=r) for r in (0, 4))
    assert macs(plain, (3, 5)) - macs(narrow, (3, 5)) == 15 * (16 * 16 - 2 * 16 * 4)
    assert prod(narrow.project.v[0].weight.shape) == 16 * 4
