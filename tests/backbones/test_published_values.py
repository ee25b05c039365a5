"""Stages of published architectures, as their space files spell them, against the equations of the papers in float64.

What a part does is worked out beside the parts; here it is what a file makes of them: the order of the branches, what
each of them reads, where norms, scales and shifts are.

Shapes: C channels, S spatial axes, N positions, M keys, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod, sqrt
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.backbones import Interface, plan
from medsearch.core.config import read_yaml
from medsearch.core.library import find
from medsearch.spaces import read_space

Size = tuple[int, ...]
EPS = 1e-5


def stage(name: str, index: int) -> list[Any]:
    """Downsampling and blocks of a stage of a published space; every parameter and statistic has a value of its own."""
    data = read_yaml(find("spaces", name))
    task = data["published"].get("task", "classification")
    space = read_space(data, name, task=task)
    torch.manual_seed(0)
    planned = plan(space.first(), Interface(task=task, channels=1, outputs=2)).stages[index]
    calls = planned.blocks if planned.down is None else (planned.down, *planned.blocks)
    parts = [call.make().double().eval() for call in calls]
    with torch.no_grad():
        for part in parts:
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for norm in part.modules():
                if isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                    norm.running_mean.normal_(std=0.3)
                    norm.running_var.uniform_(0.5, 1.5)
    return parts


def normed(x_NC: Tensor, norm: Any) -> Tensor:
    """Over the channels of a position, or by the statistics of a BatchNorm."""
    if isinstance(norm, nn.LayerNorm):
        mean, var = x_NC.mean(1, keepdim=True), x_NC.var(1, unbiased=False, keepdim=True)
    else:
        mean, var = norm.running_mean, norm.running_var
    return (x_NC - mean) / (var + EPS).sqrt() * norm.weight + norm.bias


def mapped(x_NC: Tensor, layer: Any) -> Tensor:
    return x_NC @ layer.weight.flatten(1).T + (0 if layer.bias is None else layer.bias)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / sqrt(2))) / 2


def convolved(x_NC: Tensor, size: Size, conv: Any, stride: int = 1) -> Tensor:
    """A convolution as the sum over its taps; half a window of zeros around the map where windows overlap."""
    edge, groups = conv.kernel_size[0], conv.groups
    half = edge // 2 if edge > stride or stride == 1 else 0
    x_CS = F.pad(x_NC.T.reshape(-1, *size), [half] * 2 * len(size))
    steps = [-(-length // stride) for length in size]
    y_NC = torch.zeros(prod(steps), conv.weight.shape[0], dtype=x_NC.dtype)
    for tap in product(range(edge), repeat=len(size)):
        window = tuple(slice(t, t + (n - 1) * stride + 1, stride) for t, n in zip(tap, steps, strict=True))
        seen_NC = x_CS[(slice(None), *window)].flatten(1).T
        weight = conv.weight[(..., *tap)]
        y_NC += seen_NC * weight[:, 0] if groups > 1 else seen_NC @ weight.T
    return y_NC if conv.bias is None else y_NC + conv.bias


def attended(q_NC: Tensor, k_MC: Tensor, v_MC: Tensor, heads: int, scale: float, bias_HNM: Any = 0) -> Tensor:
    q, k, v = (part.unflatten(1, (heads, -1)) for part in (q_NC, k_MC, v_MC))
    scores_HNM = torch.einsum("nhd,mhd->hnm", q, k) * scale + bias_HNM
    return torch.einsum("hnm,mhd->nhd", scores_HNM.softmax(-1), v).flatten(1)


def perceptron(x_NC: Tensor, part: Any) -> Tensor:
    return mapped(gelu(mapped(normed(x_NC, part.norm), part.expand)), part.project)


def windowed(size: Size, window: int, shift: int) -> tuple[Tensor, Tensor]:
    """(N, N): whether two positions share a window, and the entry of the table for what is between them."""
    places = list(product(*(range(length) for length in size)))
    of = [tuple((p - shift) // window for p in place) for place in places]
    span = 2 * window - 1
    entry = [[(a[0] - b[0] + window - 1) * span + a[1] - b[1] + window - 1 for b in places] for a in places]
    together = torch.tensor([[a == b for b in of] for a in of])
    return together, torch.where(together, torch.tensor(entry), 0)


def window_attention(x_NC: Tensor, size: Size, part: Any, shift: int, *, table: bool) -> Tensor:
    """Softmax over the 7 x 7 positions of the window, heads of 32 channels."""
    z_NC, heads = normed(x_NC, part.project.norm), x_NC.shape[1] // 32
    together_NN, entry_NN = windowed(size, 7, shift)
    bias_HNN = torch.where(together_NN, 0.0, -torch.inf).double()
    if table:
        bias_HNN = bias_HNN + part.position.table[entry_NN].permute(2, 0, 1)
    q, k, v = (mapped(z_NC, getattr(part.project, name)) for name in "qkv")
    return mapped(attended(q, k, v, heads, 32**-0.5, bias_HNN), part.project.out)


def convnext(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Figure 4 of arXiv:2201.03545: x + scale * W2 GELU(W1 LN(DW7(x)))."""
    for block in blocks:
        filtered_NC = convolved(x_NC, size, block.mixer.filter)
        x_NC = x_NC + block.joint_scale.flatten() * perceptron(filtered_NC, block.channel)
    return x_NC


def swin(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Eq. 3 of arXiv:2103.14030: windows, then windows that are moved by 3."""
    for shift, block in zip((0, 3), blocks, strict=True):
        x_NC = x_NC + window_attention(x_NC, size, block.mixer, shift, table=True)
        x_NC = x_NC + perceptron(x_NC, block.channel)
    return x_NC


def l2vit(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Eq. 9 to 14 of arXiv:2501.16182, depthwise positions before both attentions and before the window's FFN."""
    first, second = blocks
    x_NC = x_NC + convolved(x_NC, size, first.position.filter)
    x_NC = x_NC + window_attention(x_NC, size, first.mixer, 0, table=False)
    x_NC = x_NC + convolved(x_NC, size, first.local.filter)
    x_NC = x_NC + perceptron(x_NC, first.channel)
    x_NC = x_NC + convolved(x_NC, size, second.position.filter)
    linear, local = second.mixer, second.local
    z_NC = normed(x_NC, linear.project.norm)
    q, k, v = (mapped(z_NC, getattr(linear.project, name)).unflatten(1, (-1, 32)) for name in "qkv")
    weight_HNM = torch.einsum("nhd,mhd->hnm", q.relu(), k.relu())
    share_HNM = weight_HNM / weight_HNM.sum(-1, keepdim=True).clamp_min(100)
    y_NHD = torch.einsum("hnm,mhd->nhd", share_HNM, v) * linear.temperature.unsqueeze(1)
    x_NC = x_NC + mapped(y_NHD.flatten(1), linear.project.out)
    inner_NC = gelu(convolved(normed(x_NC, local.norm), size, local.filter))
    x_NC = x_NC + convolved(normed(inner_NC, local.filter_norm), size, local.refilter)
    return x_NC + perceptron(x_NC, second.channel)


def segformer3d(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Eq. 1 to 3 of arXiv:2404.10156: keys and values from windows of 4^3, a depthwise 3^3 filter and BatchNorm."""
    for block in blocks:
        part, into = block.mixer, block.mixer.project
        z_NC = normed(x_NC, into.norm)
        keys_MC = normed(convolved(z_NC, size, part.pool.filter, 4), part.pool.norm)
        y_NC = attended(mapped(z_NC, into.q), mapped(keys_MC, into.k), mapped(keys_MC, into.v), 1, 32**-0.5)
        x_NC = x_NC + mapped(y_NC, into.out)
        mix = block.channel
        hidden_NC = convolved(mapped(normed(x_NC, mix.norm), mix.expand), size, mix.filter)
        x_NC = x_NC + mapped(gelu(normed(hidden_NC, mix.filter_norm)), mix.project)
    return x_NC


def cvt(x_NC: Tensor, size: Size, parts: list[Any]) -> Tensor:
    """Section 3 of arXiv:2103.15808: an overlapping embedding, then attention whose projections are filters.

    Scores are divided by the root of all 192 channels; there are heads of 64.
    """
    down, *blocks = parts
    x_NC = normed(convolved(x_NC, size, down.reduce, 2), down.norm)
    size = tuple(-(-length // 2) for length in size)
    for block in blocks:
        part, into = block.mixer, block.mixer.project
        z_NC, made = normed(x_NC, into.norm), []
        for name, stride in (("q", 1), ("k", 2), ("v", 2)):
            layer = getattr(part.pool, name)
            made.append(mapped(normed(convolved(z_NC, size, layer.conv, stride), layer.norm), getattr(into, name)))
        x_NC = x_NC + mapped(attended(*made, 3, 192**-0.5), into.out)
        x_NC = x_NC + perceptron(x_NC, block.channel)
    return x_NC


def vit(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Eq. 2 and 3 of arXiv:2010.11929, heads of 64."""
    for block in blocks:
        into = block.mixer.project
        z_NC = normed(x_NC, into.norm)
        made = (mapped(z_NC, getattr(into, name)) for name in "qkv")
        x_NC = x_NC + mapped(attended(*made, 6, 64**-0.5), into.out)
        x_NC = x_NC + perceptron(x_NC, block.channel)
    return x_NC


def mixer(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Eq. 1 of arXiv:2105.01601: one perceptron over the positions, one over the channels."""
    for block in blocks:
        part = block.mixer
        z_CN = normed(x_NC, part.norm).T
        x_NC = x_NC + mapped(gelu(mapped(z_CN, part.expand)), part.project).T
        x_NC = x_NC + perceptron(x_NC, block.channel)
    return x_NC


def gmlp(x_NC: Tensor, size: Size, blocks: list[Any]) -> Tensor:
    """Section 2 of arXiv:2105.08050: W2 (u * (W LN(v) + b)), where b is 1 and what is learned."""
    for block in blocks:
        part = block.mixer
        u_NC, v_NC = gelu(mapped(normed(x_NC, part.norm), part.expand)).chunk(2, 1)
        gate_NC = part.mix_TT @ normed(v_NC, part.gate_norm) + 1 + part.bias_T.unsqueeze(1)
        x_NC = x_NC + mapped(u_NC * gate_NC, part.project)
    return x_NC


CASES = [
    # space, stage, channels and size of what comes in, reference, blocks and downsamplings that are compared
    ("convnext-t", 0, 96, (9, 7), convnext, 3),
    ("swin-t", 0, 96, (14, 14), swin, 2),
    ("l2vit-t", 0, 96, (14, 7), l2vit, 2),
    ("segformer3d", 0, 32, (4, 8, 4), segformer3d, 2),
    ("cvt-13", 1, 64, (9, 12), cvt, 3),
    ("vit-s-16", 0, 384, (5, 3), vit, 2),
    ("mixer-b-16", 0, 768, (14, 14), mixer, 1),
    ("gmlp-s-16", 0, 256, (14, 14), gmlp, 2),
]


@pytest.mark.parametrize(("name", "index", "dim", "size", "reference", "count"), CASES)
def test_a_stage_of_a_published_space_is_what_the_paper_writes(
    name: str, index: int, dim: int, size: Size, reference: Callable[..., Tensor], count: int
) -> None:
    parts = stage(name, index)[:count]
    x_1CS = torch.randn(1, dim, *size, dtype=torch.float64)
    with torch.no_grad():
        expected_NC = reference(x_1CS.flatten(2)[0].T, size, list(parts))
        y_1CS = nn.Sequential(*parts)(x_1CS)
    torch.testing.assert_close(y_1CS.flatten(2)[0].T, expected_NC, rtol=1e-9, atol=1e-9)
