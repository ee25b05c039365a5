"""The attention mixers against their equations, worked out in float64 query by query: no windows, padding or gathers.

Every reference below only knows which positions exist; a key set is a list of positions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import ceil, cos, pi, prod

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medsearch.blocks import MIXERS

Position = tuple[int, ...]
Values = dict[Position, Tensor]
SOFTMAX = ("full_attention", "neighbourhood_attention", "pooled_attention", "region_topk_attention", "window_attention")
ATTENTIONS = ("linear_attention", *SOFTMAX)


def build(name: str, dim: int, dims: int, seed: int = 0, **knobs: object) -> nn.Module:
    """A mixer whose every parameter and statistic, also those that start at 0 or 1, has a value of its own."""
    torch.manual_seed(seed)
    mixer = MIXERS[name](dim, dims=dims, **knobs).eval()
    mixer.asked = {**MIXERS.knobs(name), **knobs}
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        for norm in (part for part in mixer.modules() if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d)):
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.5, 1.5)
    return mixer


def positions(size: tuple[int, ...]) -> list[Position]:
    return list(product(*(range(length) for length in size)))


def normed(norm: nn.LayerNorm, x_C: Tensor) -> Tensor:
    scaled = (x_C - x_C.mean()) / (x_C.var(unbiased=False) + 1e-5).sqrt()
    return scaled * norm.weight.double() + norm.bias.double()


def linear(layer: nn.Linear, x_C: Tensor) -> Tensor:
    y = layer.weight.double() @ x_C
    return y if layer.bias is None else y + layer.bias.double()


def filtered(conv: nn.Module, values: Values, at: Position) -> Tensor:
    """The depthwise filter ``conv`` centred on one position; what lies outside the map counts as zero."""
    channels = conv.weight.shape[0]
    y = torch.zeros(channels, dtype=torch.float64) if conv.bias is None else conv.bias.double().clone()
    for tap in product(*(range(edge) for edge in conv.kernel_size)):
        source = tuple(p + t - edge // 2 for p, t, edge in zip(at, tap, conv.kernel_size, strict=True))
        if source in values:
            y += conv.weight.double()[(slice(None), 0, *tap)] * values[source]
    return y


def softmax_mean(scores: list[Tensor], values: list[Tensor]) -> Tensor:
    top = max(score.item() for score in scores)
    weights = [(score - top).exp() for score in scores]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def tokens(mixer: nn.Module, x_CS: Tensor) -> Values:
    """Normed channels by position."""
    norm = mixer.project.norm
    return {p: normed(norm, x_CS[(slice(None), *p)].double()) for p in positions(tuple(x_CS.shape[1:]))}


def by_head(mixer: nn.Module, layer: str, made_from: Values) -> Values:
    """What the layer ``q``, ``k`` or ``v`` makes of every position, each (heads, width)."""
    heads = mixer.project.shape.heads
    return {p: linear(getattr(mixer.project, layer), t).reshape(heads, -1) for p, t in made_from.items()}


def seen(
    mixer: nn.Module,
    q_HQ: Tensor,
    keys: list[Tensor],
    values: list[Tensor],
    bias: list[Tensor] | None = None,
    offered: int | None = None,
) -> Tensor:
    """The values that one query sees, heads side by side, with all that the product may be set to."""
    core = mixer.product
    maps = 2 if core.differential else 1
    width = q_HQ.shape[1] // maps
    scale = (width if mixer.asked["scale"] == "head" else mixer.project.dim) ** -0.5
    offered = len(keys) if offered is None else offered
    keep = min(len(keys), offered, max(offered // core.select, core.least)) if core.select > 1 else len(keys)
    heads = []
    for h in range(len(q_HQ)):
        mixed = []
        for side in range(maps):
            half = slice(side * width, (side + 1) * width)
            scores = [q_HQ[h, half] @ key[h, half] * scale for key in keys]
            if bias is not None:
                scores = [score + b[h] for score, b in zip(scores, bias, strict=True)]
            kept = sorted(range(len(keys)), key=lambda i, s=scores: -s[i].item())[:keep]
            mixed.append(softmax_mean([scores[i] for i in kept], [values[i][h] for i in kept]))
        heads.append(mixed[0] if maps == 1 else contrasted(core, *mixed))
    return torch.cat(heads)


def contrasted(core: nn.Module, first_D: Tensor, second_D: Tensor) -> Tensor:
    """What two maps disagree on, normed."""
    weight = (core.lambda_q1.double() @ core.lambda_k1.double()).exp()
    weight = weight - (core.lambda_q2.double() @ core.lambda_k2.double()).exp() + core.lambda_init
    mixed = first_D - weight * second_D
    return mixed / (mixed.square().mean() + 1e-5).sqrt() * core.gain.double() * (1 - core.lambda_init)


def left(mixer: nn.Module, y_C: Tensor, at: Position, t: Values, v: Values | None = None) -> Tensor:
    """The way out: local filter of the values, gate, projection."""
    project = mixer.project
    if project.local is not None:
        y_C = y_C + filtered(project.local, {p: value.flatten() for p, value in v.items()}, at)
    if project.gate is not None:
        gate = linear(project.gate, t[at])
        y_C = y_C * gate / (1 + (-gate).exp())
    return linear(project.out, y_C)


def offset_bias(mixer: nn.Module, offset: Position) -> Tensor:
    """(heads,) of the table's entry for query less key."""
    if mixer.position is None:
        return torch.zeros(mixer.project.shape.heads, dtype=torch.float64)
    edges = mixer.position.window
    table = mixer.position.table.double().reshape(*(2 * edge - 1 for edge in edges), -1)
    return table[tuple(o + edge - 1 for o, edge in zip(offset, edges, strict=True))]


def reading(
    mixer: nn.Module, x_CS: Tensor, read: Callable[[Position], list[Position]], offset: Callable[..., Position] | None
) -> Values:
    """Every position reads the positions of ``read``, with a bias by ``offset(query, key)``."""
    t = tokens(mixer, x_CS)
    q, k, v = (by_head(mixer, layer, t) for layer in "qkv")
    y = {}
    for p in t:
        keys = read(p)
        bias = None if offset is None else [offset_bias(mixer, offset(p, m)) for m in keys]
        y[p] = left(mixer, seen(mixer, q[p], [k[m] for m in keys], [v[m] for m in keys], bias), p, t, v)
    return y


def full_reference(mixer: nn.Module, x_CS: Tensor) -> Values:
    everything = positions(tuple(x_CS.shape[1:]))
    return reading(mixer, x_CS, lambda _: everything, None)


def difference(p: Position, m: Position) -> Position:
    return tuple(a - b for a, b in zip(p, m, strict=True))


def window_reference(mixer: nn.Module, x_CS: Tensor) -> Values:
    size = tuple(x_CS.shape[1:])

    def window_of(p: Position) -> Position:
        axes = zip(p, size, mixer.window, mixer.shift, strict=True)
        return tuple((at - (step if length > edge else 0)) // edge for at, length, edge, step in axes)

    def read(p: Position) -> list[Position]:
        return [m for m in positions(size) if window_of(m) == window_of(p)]

    return reading(mixer, x_CS, read, difference)


def neighbourhood_reference(mixer: nn.Module, x_CS: Tensor) -> Values:
    """Per axis: of the positions congruent to the query's, ``kernel`` around it, moved inside where they stick out."""
    size = tuple(x_CS.shape[1:])

    def near(at: int, length: int, kernel: int, dilation: int) -> list[int]:
        same = list(range(at % dilation, length, dilation))
        start = same.index(at) - min(kernel, len(same)) // 2
        while start < 0:
            start += 1
        while start + min(kernel, len(same)) > len(same):
            start -= 1
        return same[start : start + kernel]

    def read(p: Position) -> list[Position]:
        axes = zip(p, size, mixer.kernel, mixer.dilation, strict=True)
        return list(product(*(near(*axis) for axis in axes)))

    def steps(p: Position, m: Position) -> Position:
        return tuple((a - b) // step for a, b, step in zip(p, m, mixer.dilation, strict=True))

    return reading(mixer, x_CS, read, steps)


def windows(size: tuple[int, ...], edges: tuple[int, ...]) -> dict[Position, list[Position]]:
    found: dict[Position, list[Position]] = {}
    for p in positions(size):
        found.setdefault(tuple(at // edge for at, edge in zip(p, edges, strict=True)), []).append(p)
    return found


def pooled_reference(mixer: nn.Module, x_CS: Tensor) -> Values:
    t, size = tokens(mixer, x_CS), tuple(x_CS.shape[1:])
    pool, edges = mixer.pool, mixer.pool.window
    made = {"q": t, "k": {}, "v": {}}
    if hasattr(pool, "kernel"):
        strided = [range(0, length, edge) for length, edge in zip(size, edges, strict=True)]
        for layer, at in (("q", positions(size)), ("k", list(product(*strided))), ("v", list(product(*strided)))):
            conv, norm = getattr(pool, layer).conv, getattr(pool, layer).norm
            scale = norm.weight.double() / (norm.running_var.double() + 1e-5).sqrt()
            made[layer] = {
                p: (filtered(conv, t, p) - norm.running_mean.double()) * scale + norm.bias.double() for p in at
            }
    else:
        summary = convolved if hasattr(pool, "filter") else MEANS[type(pool).__name__]
        made["k"] = made["v"] = {w: normed(pool.norm, x) for w, x in summary(pool, t, size).items()}
    q, k, v = (by_head(mixer, layer, made[layer]) for layer in "qkv")
    y = {p: left(mixer, seen(mixer, q[p], list(k.values()), list(v.values())), p, t) for p in t}
    return y if mixer.local is None else {p: y[p] + filtered(mixer.local, t, p) for p in t}


def averaged(pool: nn.Module, t: Values, size: tuple[int, ...]) -> Values:
    return {w: sum(t[p] for p in members) / len(members) for w, members in windows(size, pool.window).items()}


def convolved(pool: nn.Module, t: Values, size: tuple[int, ...]) -> Values:
    weight, found = pool.filter.weight.double(), {}
    for w, members in windows(size, pool.window).items():
        taps = [tuple(at % edge for at, edge in zip(p, pool.window, strict=True)) for p in members]
        products = (weight[(slice(None), slice(None), *tap)] @ t[p] for p, tap in zip(members, taps, strict=True))
        found[w] = pool.filter.bias.double() + sum(products)
    return found


def low_passed(pool: nn.Module, t: Values, size: tuple[int, ...]) -> Values:
    """The cosines of lowest frequency, summed up again at the centres of as many cells."""
    kept = tuple(ceil(length / edge) for length, edge in zip(size, pool.window, strict=True))

    def wave(frequency: int, at: int, length: int) -> float:
        return cos(pi * frequency * (at + 0.5) / length)

    coefficients = {}
    for f in positions(kept):
        norm = prod((1 if k == 0 else 2) / length for k, length in zip(f, size, strict=True))
        coefficients[f] = norm * sum(prod(map(wave, f, p, size)) * x for p, x in t.items())
    return {w: sum(c * prod(map(wave, f, w, kept)) for f, c in coefficients.items()) for w in positions(kept)}


MEANS = {"_Mean": averaged, "_Dct": low_passed}


def linear_reference(mixer: nn.Module, x_CS: Tensor) -> Values:
    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    t = tokens(mixer, x_CS)
    q, k, v = (by_head(mixer, layer, t) for layer in "qkv")
    y = {}
    for p in q:
        heads = []
        for h in range(len(q[p])):
            weights = {m: phi(q[p][h]) @ phi(k[m][h]) for m in k}
            total = sum(weights.values()) + len(k) * 1e-6
            heads.append(sum(w * v[m][h] for m, w in weights.items()) / total)
        y[p] = left(mixer, torch.cat(heads), p, t, v)
    return y


def region_reference(mixer: nn.Module, x_CS: Tensor) -> Values:
    size = tuple(x_CS.shape[1:])
    edges = tuple(ceil(length / min(most, length)) for length, most in zip(size, mixer.regions, strict=True))
    t = tokens(mixer, x_CS)
    q, k, v = (by_head(mixer, layer, t) for layer in "qkv")
    regions = windows(size, edges)
    mean_q, mean_k = (
        {r: sum(part[p].flatten() for p in members) / len(members) for r, members in regions.items()} for part in (q, k)
    )
    read = min(mixer.top_regions, len(regions))
    y = {}
    for region, members in regions.items():
        best = sorted(regions, key=lambda other, here=region: -(mean_q[here] @ mean_k[other]).item())[:read]
        keys = [m for other in best for m in regions[other]]
        for p in members:
            mixed = seen(mixer, q[p], [k[m] for m in keys], [v[m] for m in keys], offered=read * prod(edges))
            y[p] = left(mixer, mixed, p, t, v)
    return y


REFERENCES: dict[str, Callable[[nn.Module, Tensor], Values]] = {
    "full_attention": full_reference,
    "linear_attention": linear_reference,
    "neighbourhood_attention": neighbourhood_reference,
    "pooled_attention": pooled_reference,
    "region_topk_attention": region_reference,
    "window_attention": window_reference,
}

DIFFERENTIAL = {"differential": True, "bias": False}
CASES = [
    ("full_attention", (3, 4), {"heads": 2, "head_dim": 4}),
    ("full_attention", (2, 3, 2), {"head_dim": 3, "local": 0, "bias": False, "scale": "full"}),
    ("full_attention", (4, 5), {"local": 5, "scale": "full", "gate": True}),
    ("full_attention", (4, 5), {"qk_dim": 1, "heads": 3, "head_dim": 2}),
    ("full_attention", (4, 5), {"select": 4, "least": 2, "gate": True}),
    ("full_attention", (3, 2, 3), {"head_dim": 4, **DIFFERENTIAL, "select": 3, "least": 1}),
    ("full_attention", (6, 5), {"heads": 2, "head_dim": 4, "differential": True, "qk_dim": 2, "lambda_init": 0.8}),
    ("full_attention", (1, 1), {}),
    ("linear_attention", (3, 4), {"heads": 2, "head_dim": 4}),
    ("linear_attention", (2, 3, 2), {"head_dim": 3}),
    ("linear_attention", (1, 1), {"local": 5}),
    ("window_attention", (6, 6), {"window": 3, "heads": 2, "head_dim": 4}),
    ("window_attention", (6, 9), {"window": 3, "shift": 1, "head_dim": 3}),
    ("window_attention", (5, 7), {"window": 3, "shift": 2, "heads": 2, "head_dim": 4}),
    ("window_attention", (2, 9), {"window": 4, "shift": 2}),
    ("window_attention", (3, 4), {"window": 7, "shift": 3}),
    ("window_attention", (4, 2, 5), {"window": 3, "shift": 1, "head_dim": 3}),
    ("window_attention", (4, 5, 3), {"window": "1x3x2", "shift": "0x1x1", "position": "none", "heads": 2}),
    ("window_attention", (5, 7), {"window": 3, "shift": 1, "local": 3, "gate": True, "scale": "full"}),
    ("window_attention", (5, 7), {"window": 4, "shift": 2, "head_dim": 4, "position": "none", **DIFFERENTIAL}),
    ("window_attention", (6, 6), {"window": 6, "heads": 2, "head_dim": 4, "differential": True, "qk_dim": 2}),
    ("window_attention", (6, 6), {"window": 3, "select": 3, "least": 2, "qk_dim": 2}),
    ("window_attention", (1, 1), {}),
    ("neighbourhood_attention", (6, 9), {"kernel": 3, "heads": 2, "head_dim": 4}),
    ("neighbourhood_attention", (13, 4), {"kernel": 5, "head_dim": 3, "scale": "full", "local": 3}),
    ("neighbourhood_attention", (9, 12), {"kernel": 3, "dilation": 2, "position": "none"}),
    ("neighbourhood_attention", (15, 7), {"kernel": "3x5", "dilation": "4x1", "heads": 2, "head_dim": 4}),
    ("neighbourhood_attention", (5, 8, 7), {"kernel": 3, "gate": True}),
    ("neighbourhood_attention", (3, 10, 5), {"kernel": "1x5x3", "dilation": "1x2x1", **DIFFERENTIAL}),
    ("neighbourhood_attention", (8, 9), {"kernel": 3, "select": 3, "least": 1, "qk_dim": 2}),
    ("neighbourhood_attention", (8, 9), {"kernel": 3, "differential": True, "select": 2, "least": 1}),
    ("neighbourhood_attention", (3, 4), {"kernel": 7}),
    ("neighbourhood_attention", (1, 5), {"kernel": 3, "dilation": 7}),
    ("pooled_attention", (4, 4), {"pool": 2, "heads": 2, "head_dim": 4, **DIFFERENTIAL}),
    ("pooled_attention", (5, 7), {"pool": 3, "lambda_init": 0.2, **DIFFERENTIAL}),
    ("pooled_attention", (3, 4, 5), {"pool": 2, "heads": 2, "head_dim": 2, "differential": True}),
    ("pooled_attention", (1, 2), DIFFERENTIAL),
    ("pooled_attention", (7, 6), {"pool": 1, "heads": 2, "head_dim": 4, **DIFFERENTIAL}),
    ("pooled_attention", (5, 7), {"pool": "2x3", "gate": True, "local": 0}),
    ("pooled_attention", (6, 4), {"pool": 2, "op": "conv", "heads": 3, "head_dim": 2, "local": 0}),
    ("pooled_attention", (5, 3, 4), {"pool": "1x2x3", "op": "conv", "qk_dim": 1, "select": 2, "least": 1}),
    ("pooled_attention", (6, 7), {"pool": 2, "op": "dwconv", "scale": "full", "local": 0}),
    ("pooled_attention", (5, 4, 3), {"pool": "1x2x4", "op": "dwconv", **DIFFERENTIAL}),
    ("pooled_attention", (6, 7), {"pool": 2, "op": "dct", "heads": 2, "head_dim": 4}),
    ("pooled_attention", (5, 4, 3), {"pool": "1x2x3", "op": "dct", "qk_dim": 8}),
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


def weights(name: str, dim: int, **knobs: object) -> int:
    return sum(p.numel() for p in MIXERS[name](dim, dims=2, **knobs).parameters())


def test_swin_tiny_has_its_published_number_of_parameters():
    # 4 x 4 patches of RGB to 96 with a LayerNorm, four stages, merging by LayerNorm(4C) and 4C -> 2C, a LayerNorm and
    # 768 -> 1000; a block adds to the mixer a LayerNorm (2C) and a perceptron of ratio 4 (8 C^2 + 5 C).
    total = (4 * 4 * 3 * 96 + 96) + 2 * 96 + 2 * 768 + (768 * 1000 + 1000)
    for dim, depth in ((96, 2), (192, 2), (384, 6), (768, 2)):
        total += depth * (weights("window_attention", dim) + 2 * dim + 8 * dim**2 + 5 * dim)
        total += (2 * 4 * dim + 4 * dim * 2 * dim) if dim < 768 else 0
    assert total == 28_288_354


@pytest.mark.parametrize(("depths", "published"), [((1, 2, 10), 19_997_480), ((1, 4, 16), 31_622_696)])
def test_cvt_has_its_published_number_of_parameters(depths, published):
    # Overlapping convolutions 7 x 7 and 3 x 3 with a LayerNorm after each; a block as in Swin; the last stage has a
    # class token; a LayerNorm and 384 -> 1000.
    total = 384 + 2 * 384 + (384 * 1000 + 1000)
    for before, dim, kernel, depth in zip((3, 64, 192), (64, 192, 384), (7, 3, 3), depths, strict=True):
        mixer = weights("pooled_attention", dim, pool=2, op="dwconv", scale="full", head_dim=64, local=0)
        total += kernel**2 * before * dim + dim + 2 * dim + depth * (mixer + 2 * dim + 8 * dim**2 + 5 * dim)
    assert total == published


COSTS = [
    ("full_attention", (6, 5), {}, lambda c, inner: 30 * (4 * c + 2 * 30 + 9) * inner),
    ("linear_attention", (6, 5), {"local": 3}, lambda c, inner: 30 * (4 * c + 2 * 4 + 1 + 9) * inner),
    ("window_attention", (6, 6, 3), {"window": 3}, lambda c, inner: 108 * (4 * c + 2 * 27) * inner),
    ("neighbourhood_attention", (20, 16), {"kernel": 5}, lambda c, inner: 320 * (4 * c + 2 * 8**2) * inner),
    ("pooled_attention", (8, 6), {"pool": 2}, lambda c, inner: 48 * (((2 + 2 / 4) * c + 2 * 12) * inner + 9 * c)),
    (
        "pooled_attention",
        (8, 6),
        {"pool": 2, "op": "conv", "local": 0},
        lambda c, inner: 48 * (((2 + 2 / 4) * c + 2 * 12) * inner + c * c),
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


HEADED = [(name, {}) for name in ATTENTIONS] + [(name, {"gate": True, "qk_dim": 2, "local": 3}) for name in SOFTMAX]


@pytest.mark.parametrize(("name", "knobs"), HEADED)
def test_a_head_can_be_cut_out_where_the_groups_say(name, knobs):
    mixer, keep = build(name, 8, 2, heads=3, head_dim=4, **knobs), torch.tensor([0, 2])
    group = mixer.groups()["heads"]
    state = mixer.state_dict()
    if name == "region_topk_attention":  # all heads together choose the regions: the lost one must not have a say
        for key in ("project.q.weight", "project.q.bias", "project.k.weight", "project.k.bias"):
            state[key].unflatten(0, (3, -1))[1] = 0
    shorter = dict(state)
    for axis in (*group.made, group.read):
        for key, tensor in state.items():
            if (key == axis.name or key.startswith(f"{axis.name}.")) and tensor.ndim > axis.axis:
                shorter[key] = tensor.index_select(axis.axis, axis.entries(3, keep))
    cut = MIXERS[name](8, dims=2, heads=2, head_dim=4, **knobs).eval()
    cut.load_state_dict(shorter)
    state["project.out.weight"].reshape(8, 3, 4)[:, 1] = 0
    x_BCHW = torch.randn(1, 8, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(cut(x_BCHW), mixer(x_BCHW), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 100.0])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_constant_map_gives_numbers_in_half_precision(name, value, dtype):
    mixer = build(name, 32, 2).to(dtype)
    with torch.no_grad():
        assert mixer(torch.full((1, 32, 17, 9), value, dtype=dtype)).isfinite().all()


def test_linear_attention_survives_half_precision_where_sums_over_the_keys_overflow():
    mixer = build("linear_attention", 32, 2)
    x_BCHW = torch.randn(1, 32, 64, 64)
    with torch.no_grad():
        q, k, v = (part.double().reshape(4096, 32) for part in mixer.project(mixer.project.norm(x_BCHW.movedim(1, -1))))
        q, k = (torch.where(part > 0, part + 1, part.exp()) for part in (q, k))
        assert (q @ k.sum(0)).max() > torch.finfo(torch.float16).max
        expected_ND = (q @ (k.T @ v)) / (q @ k.sum(0)).unsqueeze(1)
        expected_ND += mixer.project.local.double()(v.T.reshape(1, 32, 64, 64)).reshape(32, -1).T
        expected_NC = mixer.project.out.double()(expected_ND)
        y_NC = mixer.half()(x_BCHW.half()).reshape(32, -1).T.double()
    assert (y_NC - expected_NC).norm() / expected_NC.norm() < 4e-3


def test_equal_regions_are_taken_in_order():
    mixer = build("region_topk_attention", 8, 2, regions=4, top_regions=3)
    same_BRHTD = torch.ones(2, 16, 1, 4, 8)
    top_BRK = mixer._route(same_BRHTD, same_BRHTD, None)
    assert (top_BRK.sort(dim=-1).values == torch.arange(3)).all()


def read_by(mixer: nn.Module, at: Position) -> set[Position]:
    x_BCHW = torch.zeros(1, 8, 10, 10, requires_grad=True)
    (grad,) = torch.autograd.grad(mixer(x_BCHW + torch.randn(1, 8, 10, 10))[(0, slice(None), *at)].sum(), x_BCHW)
    return {tuple(p) for p in grad[0].abs().sum(0).nonzero().tolist()}


def test_a_shifted_window_connects_what_a_plain_one_separates():
    plain, shifted = (build("window_attention", 8, 2, window=4, shift=shift) for shift in (0, 2))
    assert read_by(plain, (3, 3)) == set(product(range(4), repeat=2))
    assert read_by(shifted, (3, 3)) == set(product(range(2, 6), repeat=2))


def test_a_neighbourhood_keeps_its_size_at_the_border_and_skips_where_dilated():
    mixer = build("neighbourhood_attention", 8, 2, kernel=3, dilation="1x3")
    assert read_by(mixer, (5, 5)) == set(product((4, 5, 6), (2, 5, 8)))
    assert read_by(mixer, (0, 9)) == set(product((0, 1, 2), (3, 6, 9)))


@pytest.mark.parametrize("op", ["mean", "dct"])
def test_pooling_by_one_reads_every_position(op):
    mixer = build("pooled_attention", 8, 2, pool=1, op=op)
    assert read_by(mixer, (5, 5)) == set(positions((10, 10)))


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("window_attention", {"window": 0}, "window_attention: window must be .* at least 1, got 0; try 1"),
        ("window_attention", {"window": 4, "shift": 4}, "shift must be below window 4, got 4; try 2"),
        ("window_attention", {"shift": -1}, "shift must be .* at least 0, got -1; try 0"),
        ("window_attention", {"window": "4x4x4"}, "window must be 2 whole numbers of at least 1, got '4x4x4'; try"),
        ("window_attention", {"position": "rope"}, "position must be one of 'table', 'none', got 'rope'; try 'table'"),
        ("linear_attention", {"heads": 0}, "linear_attention: heads must be .* at least 1, got 0; try 1"),
        ("linear_attention", {"heads": 2.5}, "heads must be a whole number of at least 1, got 2.5"),
        ("linear_attention", {"local": 4}, "linear_attention: local must be odd, or 0 for none, got 4; try 5"),
        ("neighbourhood_attention", {"kernel": 4}, "neighbourhood_attention: kernel must be odd .* got 4; try 5"),
        ("neighbourhood_attention", {"dilation": 0}, "dilation must be .* at least 1, got 0; try 1"),
        ("pooled_attention", {"pool": 0}, "pool must be .* at least 1, got 0; try 1"),
        ("pooled_attention", {"op": "max"}, "op must be one of 'mean', 'conv', 'dwconv', 'dct', got 'max'; try 'mean'"),
        ("region_topk_attention", {"top_regions": 0}, "region_topk_attention: top_regions must be .* got 0; try 1"),
    ],
)
def test_a_wrong_knob_is_refused_by_name(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        MIXERS[name](8, dims=2, **knobs)


SWITCHES = [
    ({"head_dim": 5, "differential": True}, "head_dim must be even where differential is true, got 5; try 6"),
    ({"qk_dim": 3, "differential": True}, "qk_dim must be even where differential is true, got 3; try 4"),
    ({"lambda_init": 1.0}, "lambda_init must be at least 0 and below 1, got 1.0; try 0.5"),
    ({"differential": 1}, "differential must be true or false, got 1; try true"),
    ({"gate": "silu"}, "gate must be true or false, got 'silu'; try true"),
    ({"qk_dim": 0}, "qk_dim must be a whole number of at least 1, got 0; try 1"),
    ({"select": True}, "select must be a whole number of at least 1, got True; try 1"),
    ({"scale": "none"}, "scale must be one of 'head', 'full', got 'none'; try 'head'"),
]


@pytest.mark.parametrize("name", SOFTMAX)
@pytest.mark.parametrize(("knobs", "message"), SWITCHES)
def test_a_wrong_switch_is_refused_by_the_name_of_the_mixer(name, knobs, message):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        MIXERS[name](8, dims=2, **knobs)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_without_a_local_filter_or_with_few_channels_it_still_mixes(name):
    for dim in (1, 3):
        mixer = build(name, dim, 3, local=0)
        assert mixer.project.shape.heads == 1 and mixer(torch.randn(1, dim, 3, 2, 1)).isfinite().all()
