"""The attention mixers against their equations, worked out in float64 query by query: no windows, padding or gathers.

Every reference below only knows which positions exist; a key set is a list of positions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import ceil, prod

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medsearch.blocks import MIXERS

Position = tuple[int, ...]
ATTENTIONS = ("differential_attention", "linear_attention", "region_topk_attention", "window_attention")


def build(name: str, dim: int, dims: int, seed: int = 0, **knobs: object) -> nn.Module:
    """A mixer whose every parameter, also those that start at 0 or 1, has a value of its own."""
    torch.manual_seed(seed)
    mixer = MIXERS[name](dim, dims=dims, **knobs).eval()
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return mixer


def positions(size: tuple[int, ...]) -> list[Position]:
    return list(product(*(range(length) for length in size)))


def normed(norm: nn.LayerNorm, x_C: Tensor) -> Tensor:
    scaled = (x_C - x_C.mean()) / (x_C.var(unbiased=False) + 1e-5).sqrt()
    return scaled * norm.weight.double() + norm.bias.double()


def linear(layer: nn.Linear, x_C: Tensor) -> Tensor:
    y = layer.weight.double() @ x_C
    return y if layer.bias is None else y + layer.bias.double()


def filtered(conv: nn.Module, values: dict[Position, Tensor], at: Position) -> Tensor:
    """The depthwise filter ``conv`` at one position; what lies outside the map counts as zero."""
    reach = conv.kernel_size[0] // 2
    y = conv.bias.double().clone()
    for tap in product(*(range(edge) for edge in conv.kernel_size)):
        source = tuple(p + t - reach for p, t in zip(at, tap, strict=True))
        if source in values:
            y += conv.weight.double()[(slice(None), 0, *tap)] * values[source]
    return y


def softmax_mean(scores: list[Tensor], values: list[Tensor]) -> Tensor:
    top = max(score.item() for score in scores)
    weights = [(score - top).exp() for score in scores]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def tokens(mixer: nn.Module, x_CS: Tensor) -> dict[Position, Tensor]:
    """Normed channels by position."""
    return {p: normed(mixer.norm, x_CS[(slice(None), *p)].double()) for p in positions(tuple(x_CS.shape[1:]))}


def qkv(mixer: nn.Module, x_CS: Tensor) -> tuple[dict[Position, Tensor], ...]:
    """Queries, keys and values by position, each (heads, head_dim)."""
    split = {p: linear(mixer.qkv, t).reshape(3, mixer.heads, mixer.head_dim) for p, t in tokens(mixer, x_CS).items()}
    return tuple({p: parts[i] for p, parts in split.items()} for i in range(3))


def linear_reference(mixer: nn.Module, x_CS: Tensor) -> dict[Position, Tensor]:
    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    q, k, v = qkv(mixer, x_CS)
    flat = {p: value.flatten() for p, value in v.items()}
    y = {}
    for p in q:
        heads = []
        for h in range(mixer.heads):
            weights = {m: phi(q[p][h]) @ phi(k[m][h]) for m in k}
            total = sum(weights.values()) + len(k) * 1e-6
            heads.append(sum(w * v[m][h] for m, w in weights.items()) / total)
        y[p] = linear(mixer.proj, torch.cat(heads) + filtered(mixer.local, flat, p))
    return y


def window_reference(mixer: nn.Module, x_CS: Tensor) -> dict[Position, Tensor]:
    size = x_CS.shape[1:]

    def window_of(p: Position) -> Position:
        steps = [mixer.shift if length > mixer.window else 0 for length in size]
        return tuple((at - step) // mixer.window for at, step in zip(p, steps, strict=True))

    q, k, v = qkv(mixer, x_CS)
    table = mixer.table.double().reshape(*[2 * mixer.window - 1] * len(size), mixer.heads)
    y = {}
    for p in q:
        keys = [m for m in k if window_of(m) == window_of(p)]
        heads = []
        for h in range(mixer.heads):
            offsets = [tuple(a - b + mixer.window - 1 for a, b in zip(p, m, strict=True)) for m in keys]
            scores = [
                q[p][h] @ k[m][h] / mixer.head_dim**0.5 + table[(*o, h)] for m, o in zip(keys, offsets, strict=True)
            ]
            heads.append(softmax_mean(scores, [v[m][h] for m in keys]))
        y[p] = linear(mixer.proj, torch.cat(heads))
    return y


def differential_reference(mixer: nn.Module, x_CS: Tensor) -> dict[Position, Tensor]:
    t = tokens(mixer, x_CS)
    windows: dict[Position, list[Tensor]] = {}
    for p, token in t.items():
        windows.setdefault(tuple(at // mixer.pool for at in p), []).append(token)
    means = [normed(mixer.pool_norm, sum(members) / len(members)) for members in windows.values()]
    keys_values = [linear(mixer.kv, mean).reshape(2, mixer.heads, mixer.head_dim) for mean in means]
    half = mixer.head_dim // 2
    weight = (mixer.lambda_q1.double() @ mixer.lambda_k1.double()).exp()
    weight = weight - (mixer.lambda_q2.double() @ mixer.lambda_k2.double()).exp() + mixer.lambda_init
    y = {}
    for p, token in t.items():
        q = linear(mixer.q, token).reshape(mixer.heads, 2, half)
        heads = []
        for h in range(mixer.heads):
            maps = []
            for side in range(2):
                scores = [q[h, side] @ kv[0, h, side * half : (side + 1) * half] / half**0.5 for kv in keys_values]
                maps.append(softmax_mean(scores, [kv[1, h] for kv in keys_values]))
            mixed = maps[0] - weight * maps[1]
            root = (mixed.square().mean() + 1e-5).sqrt()
            heads.append(mixed / root * mixer.gain.double() * (1 - mixer.lambda_init))
        y[p] = linear(mixer.proj, torch.cat(heads)) + filtered(mixer.local, t, p)
    return y


def region_reference(mixer: nn.Module, x_CS: Tensor) -> dict[Position, Tensor]:
    size = x_CS.shape[1:]
    edges = [ceil(length / min(mixer.regions, length)) for length in size]
    q, k, v = qkv(mixer, x_CS)
    flat = {p: value.flatten() for p, value in v.items()}
    regions: dict[Position, list[Position]] = {}
    for p in q:
        regions.setdefault(tuple(at // edge for at, edge in zip(p, edges, strict=True)), []).append(p)
    mean_q, mean_k = (
        {r: sum(part[p].flatten() for p in members) / len(members) for r, members in regions.items()} for part in (q, k)
    )
    read = min(mixer.top_regions, len(regions))
    offered = read * prod(edges)
    keep = min(offered, max(offered // mixer.select, mixer.least))
    y = {}
    for region, members in regions.items():
        best = sorted(regions, key=lambda other, here=region: -(mean_q[here] @ mean_k[other]).item())[:read]
        keys = [m for other in best for m in regions[other]]
        for p in members:
            heads = []
            for h in range(mixer.heads):
                scores = [q[p][h] @ k[m][h] * x_CS.shape[0] ** -0.5 for m in keys]
                kept = sorted(range(len(keys)), key=lambda i, s=scores: -s[i].item())[:keep]
                heads.append(softmax_mean([scores[i] for i in kept], [v[keys[i]][h] for i in kept]))
            y[p] = linear(mixer.proj, torch.cat(heads) + filtered(mixer.local, flat, p))
    return y


REFERENCES: dict[str, Callable[[nn.Module, Tensor], dict[Position, Tensor]]] = {
    "linear_attention": linear_reference,
    "window_attention": window_reference,
    "differential_attention": differential_reference,
    "region_topk_attention": region_reference,
}

CASES = [
    ("linear_attention", (3, 4), {"heads": 2, "head_dim": 4}),
    ("linear_attention", (2, 3, 2), {"head_dim": 3}),
    ("linear_attention", (1, 1), {"local": 5}),
    ("window_attention", (6, 6), {"window": 3, "heads": 2, "head_dim": 4}),
    ("window_attention", (6, 9), {"window": 3, "shift": 1, "head_dim": 3}),
    ("window_attention", (5, 7), {"window": 3, "shift": 2, "heads": 2, "head_dim": 4}),
    ("window_attention", (2, 9), {"window": 4, "shift": 2}),
    ("window_attention", (3, 4), {"window": 7, "shift": 3}),
    ("window_attention", (4, 2, 5), {"window": 3, "shift": 1, "head_dim": 3}),
    ("window_attention", (1, 1), {}),
    ("differential_attention", (4, 4), {"pool": 2, "heads": 2, "head_dim": 4}),
    ("differential_attention", (5, 7), {"pool": 3, "lambda_init": 0.2}),
    ("differential_attention", (3, 4, 5), {"pool": 2, "heads": 2, "head_dim": 2}),
    ("differential_attention", (1, 2), {}),
    ("region_topk_attention", (6, 6), {"regions": 3, "top_regions": 2, "select": 4, "least": 1, "local": 3}),
    ("region_topk_attention", (7, 5), {"regions": 3, "top_regions": 4, "heads": 2, "head_dim": 4}),
    ("region_topk_attention", (5, 6), {"regions": 2, "top_regions": 9, "select": 4, "least": 2}),
    ("region_topk_attention", (5, 4), {"regions": 2, "top_regions": 3, "select": 1, "head_dim": 3}),
    ("region_topk_attention", (3, 5, 4), {"regions": 2, "top_regions": 3, "least": 3, "local": 3}),
    ("region_topk_attention", (1, 1), {}),
]


@pytest.mark.parametrize(("name", "size", "knobs"), CASES)
def test_equals_the_equation_written_out_query_by_query(name, size, knobs):
    mixer = build(name, 6, len(size), **knobs)
    x_BCS = torch.randn(2, 6, *size)
    with torch.no_grad():
        y_BCS = mixer(x_BCS)
        for x_CS, y_CS in zip(x_BCS, y_BCS, strict=True):
            for p, expected_C in REFERENCES[name](mixer, x_CS).items():
                torch.testing.assert_close(y_CS[(slice(None), *p)].double(), expected_C, rtol=1e-4, atol=2e-5)


def test_swin_tiny_has_its_published_number_of_parameters():
    # 4 x 4 patches of RGB to 96 with a LayerNorm, four stages, merging by LayerNorm(4C) and 4C -> 2C, a LayerNorm and
    # 768 -> 1000; a block adds to the mixer a LayerNorm (2C) and a perceptron of ratio 4 (8 C^2 + 5 C).
    total = (4 * 4 * 3 * 96 + 96) + 2 * 96 + 2 * 768 + (768 * 1000 + 1000)
    for dim, depth in ((96, 2), (192, 2), (384, 6), (768, 2)):
        mixer = MIXERS["window_attention"](dim, dims=2)
        total += depth * (sum(p.numel() for p in mixer.parameters()) + 2 * dim + 8 * dim**2 + 5 * dim)
        total += (2 * 4 * dim + 4 * dim * 2 * dim) if dim < 768 else 0
    assert total == 28_288_354


COSTS = [
    ("linear_attention", (6, 5), {"local": 3}, lambda c, inner: 30 * (4 * c + 2 * 4 + 1 + 9) * inner),
    ("window_attention", (6, 6, 3), {"window": 3}, lambda c, inner: 108 * (4 * c + 2 * 27) * inner),
    (
        "differential_attention",
        (8, 6),
        {"pool": 2},
        lambda c, inner: 48 * ((2 + 2 / 4) * c * inner + 4 * 48 / 4 * inner + 9 * c),
    ),
    (
        "region_topk_attention",
        (6, 6),
        {"regions": 3, "top_regions": 4},
        lambda c, inner: 36 * (4 * c + 2 * 4 * 4 + 25) * inner + 9**2 * inner,
    ),
]


@pytest.mark.parametrize(("name", "size", "knobs", "macs"), COSTS)
def test_costs_what_its_docstring_says(name, size, knobs, macs):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        MIXERS[name](10, dims=len(size), heads=3, head_dim=4, **knobs)(torch.empty(1, 10, *size))
    assert counter.get_total_flops() == 2 * macs(10, 12)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_head_can_be_cut_out_along_the_head_axis_of_every_weight(name):
    mixer, keep, width = build(name, 8, 2, heads=3, head_dim=4), torch.tensor([0, 2]), 4
    cut = MIXERS[name](8, dims=2, heads=2, head_dim=4).eval()

    def kept(key: str, weight: Tensor) -> Tensor:
        if key == "proj.weight":
            return weight.reshape(8, 3, width)[:, keep].reshape(8, -1)
        if key == "table":
            return weight[:, keep]
        if key.split(".")[0] in ("q", "kv", "qkv") or (key.startswith("local") and weight.shape[0] == 3 * width):
            return weight.reshape(-1, 3, width, *weight.shape[1:])[:, keep].reshape(-1, *weight.shape[1:])
        return weight

    state = mixer.state_dict()
    if name == "region_topk_attention":  # all heads together choose the regions: the lost one must not have a say
        for key in ("qkv.weight", "qkv.bias"):
            state[key].reshape(3, 3, width, -1)[:2, 1] = 0
    cut.load_state_dict({key: kept(key, weight) for key, weight in state.items()})
    state["proj.weight"].reshape(8, 3, width)[:, 1] = 0
    x_BCHW = torch.randn(1, 8, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(cut(x_BCHW), mixer(x_BCHW), rtol=1e-4, atol=1e-5)


def test_linear_attention_survives_half_precision_where_sums_over_the_keys_overflow():
    mixer = build("linear_attention", 32, 2)
    x_BCHW = torch.randn(1, 32, 64, 64)
    with torch.no_grad():
        q, k, v = mixer.qkv(mixer.norm(x_BCHW.movedim(1, -1))).double().reshape(4096, 3, 32).unbind(1)
        q, k = (torch.where(part > 0, part + 1, part.exp()) for part in (q, k))
        assert (q @ k.sum(0)).max() > torch.finfo(torch.float16).max
        expected_ND = (q @ (k.T @ v)) / (q @ k.sum(0)).unsqueeze(1)
        if mixer.local is not None:
            expected_ND += mixer.local.double()(v.T.reshape(1, 32, 64, 64)).reshape(32, -1).T
        expected_NC = mixer.proj.double()(expected_ND)
        y_NC = mixer.half()(x_BCHW.half()).reshape(32, -1).T.double()
    assert (y_NC - expected_NC).norm() / expected_NC.norm() < 4e-3


def test_linear_attention_summarises_in_float32_under_autocast():
    mixer = build("linear_attention", 32, 2)
    q, k, v = torch.randn(3, 1, 1, 300, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = mixer._attend(q, k, v)
    assert torch.equal(y, mixer._attend(q, k, v))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 100.0])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_constant_map_gives_numbers_in_half_precision(name, value, dtype):
    mixer = build(name, 32, 2).to(dtype)
    with torch.no_grad():
        assert mixer(torch.full((1, 32, 17, 9), value, dtype=dtype)).isfinite().all()


def test_equal_regions_are_taken_in_order():
    mixer = build("region_topk_attention", 8, 2, regions=4, top_regions=3)
    top_BRK = mixer._route(torch.ones(2, 16, 4, 24), None)
    assert (top_BRK.sort(dim=-1).values == torch.arange(3)).all()


def test_a_shifted_window_connects_what_a_plain_one_separates():
    x_BCHW = torch.zeros(1, 8, 8, 8, requires_grad=True)
    reach = {}
    for shift in (0, 2):
        mixer = build("window_attention", 8, 2, window=4, shift=shift)
        (grad,) = torch.autograd.grad(mixer(x_BCHW + torch.randn(1, 8, 8, 8))[0, :, 3, 3].sum(), x_BCHW)
        reach[shift] = {tuple(p) for p in grad[0].abs().sum(0).nonzero().tolist()}
    assert reach[0] == set(product(range(4), repeat=2))
    assert reach[2] == set(product(range(2, 6), repeat=2))


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("window_attention", {"window": 0}, "window_attention: window must be .* at least 1, got 0; try 1"),
        ("window_attention", {"window": 4, "shift": 4}, "shift must be below window 4, got 4; try 2"),
        ("window_attention", {"shift": -1}, "shift must be .* at least 0, got -1; try 0"),
        ("linear_attention", {"heads": 0}, "linear_attention: heads must be .* at least 1, got 0; try 1"),
        ("linear_attention", {"heads": 2.5}, "heads must be a whole number of at least 1, got 2.5"),
        ("linear_attention", {"local": 4}, "linear_attention: local must be odd, or 0 for none, got 4; try 5"),
        ("differential_attention", {"head_dim": 5}, "differential_attention: head_dim must be even, got 5; try 6"),
        ("differential_attention", {"lambda_init": 1.0}, "lambda_init must be at least 0 and below 1, got 1.0"),
        ("differential_attention", {"pool": 0}, "pool must be .* at least 1, got 0; try 1"),
        ("region_topk_attention", {"top_regions": 0}, "region_topk_attention: top_regions must be .* got 0; try 1"),
        ("region_topk_attention", {"select": True}, "select must be a whole number of at least 1, got True; try 1"),
    ],
)
def test_a_wrong_knob_is_refused_by_name(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        MIXERS[name](8, dims=2, **knobs)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_without_a_local_filter_or_with_few_channels_it_still_mixes(name):
    knobs = {} if name == "window_attention" else {"local": 0}
    for dim in (1, 3):
        mixer = build(name, dim, 3, **knobs)
        assert mixer.heads == 1 and mixer(torch.randn(1, dim, 3, 2, 1)).isfinite().all()
