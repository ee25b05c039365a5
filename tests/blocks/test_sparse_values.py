"""The attention mixers that choose what they look at, against their rules: position by position, in float64."""

from __future__ import annotations

from itertools import product
from math import ceil, prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.mixers.compressed_attention import _merged, _ranked
from oracles import macs, parameter_count


def build(name: str, dim: int, dims: int, seed: int = 0, **knobs: object) -> nn.Module:
    """A mixer in float64 whose every parameter, also those that start at 0 or 1, has a value of its own."""
    torch.manual_seed(seed)
    mixer = MIXERS[name](dim, dims=dims, **knobs).double().eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return mixer


def normed(norm: nn.LayerNorm, x_NC: Tensor) -> Tensor:
    x_NC = x_NC - x_NC.mean(1, keepdim=True)
    return x_NC / (x_NC.square().mean(1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def layer(linear: nn.Linear, x_NC: Tensor) -> Tensor:
    return x_NC @ linear.weight.T + (0 if linear.bias is None else linear.bias)


def left(project: nn.Module, y_NC: Tensor, x_NC: Tensor, v_NC: Tensor, size: tuple[int, ...]) -> Tensor:
    if project.local is not None:
        convolve, edge = F.conv2d if len(size) == 2 else F.conv3d, project.local.weight.shape[-1] // 2
        v_1CS = v_NC.T.reshape(1, -1, *size)
        seen = convolve(v_1CS, project.local.weight, project.local.bias, padding=edge, groups=v_NC.shape[1])
        y_NC = y_NC + seen.reshape(v_NC.shape[1], -1).T
    if project.gate is not None:
        gate = layer(project.gate, x_NC)
        y_NC = y_NC * gate / (1 + (-gate).exp())
    return layer(project.out, y_NC)


def softmax_of_best(q_D: Tensor, k_MD: Tensor, v_MD: Tensor, scale: float, keep: int) -> Tensor:
    scores, best = (k_MD @ q_D * scale).sort(descending=True)
    weights = (scores[:keep] - scores[0]).exp()
    return weights @ v_MD[best[:keep]] / weights.sum()


def compressed_reference(mixer: nn.Module, x_NC: Tensor, size: tuple[int, ...], *, keep: float, merge: float) -> Tensor:
    project, (heads, width, _) = mixer.project, mixer.project.shape
    x_NC = normed(project.norm, x_NC)
    traits_NC, overall_C = layer(mixer.traits, x_NC), layer(mixer.overall, x_NC.mean(0, keepdim=True))[0]
    kept = max(1, int(len(x_NC) * keep))
    order = sorted(range(len(x_NC)), key=lambda n: -(traits_NC[n] @ overall_C).item())[:kept]
    order = sorted(order) if mixer.in_order else order
    even, odd = order[::2], order[1::2]
    members = {n: [n] for n in order}
    cosine = {(a, b): torch.cosine_similarity(traits_NC[a], traits_NC[b], dim=0).item() for a in even for b in odd}
    partner = {a: max(odd, key=lambda b, a=a: cosine[a, b]) for a in even if odd}
    gone = min(kept - max(1, int((1 - merge) * kept)), len(odd))
    for a in sorted(partner, key=lambda a: -cosine[a, partner[a]])[:gone]:
        members[partner[a]] += members.pop(a)
    tokens_MC = torch.stack([x_NC[group].mean(0) for group in members.values()])
    q, k, v = (layer(each, tokens_MC).reshape(-1, heads, width) for each in (project.q, project.k, project.v))
    best = min(len(q), max(len(q) // mixer.product.select, mixer.product.least))
    y_NC = x_NC.clone()
    for token, group in enumerate(members.values()):
        seen = [softmax_of_best(q[token, h], k[:, h], v[:, h], mixer.product.scale, best) for h in range(heads)]
        y_NC[group] = torch.cat(seen)
    return left(project, y_NC, x_NC, x_NC, size)


def region_reference(mixer: nn.Module, x_NC: Tensor, size: tuple[int, ...], *, counts: tuple[int, ...]) -> Tensor:
    project, (heads, width, _) = mixer.project, mixer.project.shape
    x_NC = normed(project.norm, x_NC)
    q, k, v = (layer(each, x_NC).reshape(-1, heads, width) for each in (project.q, project.k, project.v))
    edges = [ceil(length / min(count, length)) for length, count in zip(size, counts, strict=True)]
    regions: dict[tuple[int, ...], list[int]] = {}
    for n, place in enumerate(product(*(range(length) for length in size))):
        regions.setdefault(tuple(at // edge for at, edge in zip(place, edges, strict=True)), []).append(n)
    read = min(mixer.top_regions, len(regions))
    keep = max(read * prod(edges) // mixer.product.select, mixer.product.least)
    y_NC = torch.zeros_like(v.flatten(1))
    for members in regions.values():
        like = {region: (q[members].mean(0) * k[others].mean(0)).sum().item() for region, others in regions.items()}
        keys = [n for region in sorted(regions, key=lambda r, like=like: -like[r])[:read] for n in regions[region]]
        for n in members:
            seen = [softmax_of_best(q[n, h], k[keys, h], v[keys, h], mixer.product.scale, keep) for h in range(heads)]
            y_NC[n] = torch.cat(seen)
    return left(project, y_NC, x_NC, v.flatten(1), size)


def both(
    mixer: nn.Module, dim: int, size: tuple[int, ...], reference: object, **given: object
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the mixer makes of two images, and what the reference makes of each, (B, N, C)."""
    x_BCS = torch.randn(2, dim, *size, dtype=torch.float64)
    with torch.no_grad():
        found_BNC = mixer(x_BCS).reshape(2, dim, -1).transpose(1, 2)
        expected = [reference(mixer, x_CS.reshape(dim, -1).T, size, **given) for x_CS in x_BCS]
    return found_BNC, torch.stack(expected)


@pytest.mark.parametrize("turns", ["position", "importance"])
@pytest.mark.parametrize(
    ("size", "knobs"),
    [
        ((6, 6), {"heads": 2, "keep": 0.5, "merge": 0.3, "least": 1}),
        ((7, 5), {"keep": 0.9, "merge": 0.5, "select": 3, "least": 2, "local": 3, "gate": True}),
        ((5, 5), {"heads": 4, "keep": 0.6, "merge": 0.0, "scale": "full", "bias": True}),
        ((4, 3), {"keep": 1.0, "merge": 0.2, "select": 1}),
        ((3, 2, 4), {"heads": 2, "keep": 0.7, "merge": 0.4, "least": 1, "local": 3}),
        ((1, 2), {}),
        ((1, 1), {"local": 3, "gate": True}),
    ],
)
def test_compressed_attention_follows_its_rules(size, knobs, turns):
    mixer = build("compressed_attention", 8, len(size), turns=turns, **knobs)
    given = {"keep": knobs.get("keep", 0.5), "merge": knobs.get("merge", 0.3)}
    found_BNC, expected_BNC = both(mixer, 8, size, compressed_reference, **given)
    torch.testing.assert_close(found_BNC, expected_BNC, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("size", "regions", "knobs"),
    [
        ((6, 8), "2x4", {"top_regions": 3, "select": 2, "least": 1, "bias": False}),
        ((7, 6), "1x3", {"top_regions": 2, "select": 1, "scale": "head", "gate": True, "local": 3}),
        ((2, 5, 4), "1x2x2", {"top_regions": 2, "select": 3, "least": 2, "heads": 2, "head_dim": 4}),
        ((4, 4), "2x2", {"top_regions": 4, "select": 4, "least": 1}),
    ],
)
def test_region_topk_attention_follows_its_rules(size, regions, knobs):
    mixer = build("region_topk_attention", 8, len(size), regions=regions, **knobs)
    found_BNC, expected_BNC = both(
        mixer, 8, size, region_reference, counts=tuple(int(count) for count in regions.split("x"))
    )
    torch.testing.assert_close(found_BNC, expected_BNC, rtol=1e-6, atol=1e-8)


def test_a_merged_token_is_the_mean_of_all_that_joined_it():
    mixer = MIXERS["compressed_attention"](2, dims=2, keep=1.0, merge=0.5)
    tokens_BKC = torch.tensor([[[1.0, 0], [2, 0], [6, 0], [3, 3], [5, 5], [7, 7]]])
    seen = _merged(tokens_BKC, torch.tensor([[1, 1, 0]]), mixer._plan(6))
    assert seen.allclose(torch.tensor([[[4.5, 1.5], [8 / 3, 5 / 3], [7, 7]]]))
    equal_BKC = torch.full((1, 6, 2), 1 / 3)
    assert torch.equal(_merged(equal_BKC, torch.tensor([[0, 0, 0]]), mixer._plan(6)), equal_BKC[:, :3])


def test_what_rounding_tells_apart_is_ranked_in_order():
    torch.manual_seed(0)
    score_BN = torch.tensor([[1.0, 0.5]]).repeat_interleave(500, 1) + 1e-7 * torch.randn(3, 1000)
    assert torch.equal(_ranked(score_BN), torch.arange(1000).expand(3, -1))
    assert _ranked(torch.tensor([[0.1, -0.3, 0.2, 0.2]])).tolist() == [[2, 3, 0, 1]]
    assert _ranked(torch.zeros(1, 3)).tolist() == [[0, 1, 2]]


def test_importance_is_learned_though_it_only_chooses():
    mixer = build("compressed_attention", 8, 2)
    x_BCHW = torch.randn(1, 8, 6, 6, dtype=torch.float64)
    mixer(x_BCHW).square().sum().backward()
    assert mixer.overall.weight.grad.abs().sum() > 0
    assert mixer.traits.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("dim", "heads"), [(64, 2), (48, 1), (80, 2), (100, 2), (20, 1), (7, 1), (512, 16)])
def test_heads_of_compressed_attention_take_all_channels(dim, heads):
    shape = MIXERS["compressed_attention"](dim, dims=2).project.shape
    assert (shape.heads, shape.inner) == (heads, dim)


@pytest.mark.parametrize(("dim", "published"), [(32, 3_456_360), (64, 13_142_760), (96, 29_060_200)])
def test_medformer_has_its_published_number_of_parameters(dim, published):
    # Two 3 x 3 stem convolutions and one between stages, with BatchNorm; a BatchNorm and 1000 classes.  Blocks: a 3 x 3
    # depthwise convolution, LayerNorm and an MLP of ratio 3; attention of the last stage has no bias at q, k and v.
    widths = [dim, 2 * dim, 4 * dim, 8 * dim]
    total = 27 * dim // 2 + 3 * dim // 2 + 9 * dim * dim // 2 + 3 * dim + 2 * widths[3] + (widths[3] + 1) * 1000
    for width, depth, top in zip(widths, (2, 2, 8, 2), (1, 4, 16, 16), strict=True):
        bias = width != widths[3]
        mixer = MIXERS["region_topk_attention"](width, dims=2, top_regions=top, bias=bias)
        total += depth * (parameter_count(mixer) + 10 * width + 2 * width + 6 * width**2 + 4 * width)
        total += 0 if width == dim else 9 * width // 2 * width + 3 * width
    assert total == published


def test_compressed_attention_has_the_published_number_of_parameters():
    # The mixer of TCSAFormer's first stage with its LayerNorm: q, k and v, the keys and the query of the choice without
    # bias, the projection with one.
    assert parameter_count(MIXERS["compressed_attention"](64, dims=2)) == 128 + 6 * 64 * 64 + 64


def test_compressed_attention_costs_what_its_source_does():
    # The block's formula at 56 x 56 without its depthwise position: K = 1568 kept, M = 1097 left.
    n, c, kept, left_over = 56 * 56, 64, 1568, 1097
    expected = n * c**2 + c**2 + n * c + (kept // 2) ** 2 * c + 3 * left_over * c**2 + 2 * left_over**2 * c + n * c**2
    assert macs(MIXERS["compressed_attention"](64, dims=2), (56, 56)) == expected


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("compressed_attention", {"keep": 0}, "compressed_attention: keep must be above 0 and .* got 0; try 0.5"),
        ("compressed_attention", {"keep": True}, "keep must be above 0 and at most 1, got True"),
        ("compressed_attention", {"merge": 0.6}, "merge must be at least 0 and at most 0.5, got 0.6; try 0.5"),
        ("compressed_attention", {"merge": float("nan")}, "merge must be .* got nan; try 0.3"),
        ("compressed_attention", {"heads": 3}, "heads must divide the 8 channels, got 3; try 2"),
        ("compressed_attention", {"turns": "random"}, "turns must be one of 'position', 'importance', got 'random'"),
        ("region_topk_attention", {"regions": "2x3x4"}, "regions must be 2 whole numbers .* got '2x3x4'; try '2x2'"),
        ("region_topk_attention", {"bias": 1}, "region_topk_attention: bias must be true or false, got 1"),
    ],
)
def test_a_wrong_knob_is_refused_with_a_right_one(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        MIXERS[name](8, dims=2, **knobs)
