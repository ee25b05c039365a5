"""The heads against their equations in float64 numpy, one image at a time, and against the sizes that are published.

The reference applies every step in the order of its paper: joined, then mapped; enlarged, then mapped.  Where a head
does it in the cheaper order, the test is what says that the function is the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Separable, fit
from medsearch.blocks.nd import CONV
from medsearch.measurement.macs import count
from oracles import macs, parameter_count

Array = np.ndarray
WIDTHS, OUTPUTS, CHANNELS = (6, 8, 5), 3, 2
# The second stage halves some axes only, the third rounds up, and a deep stage is as large as the one above it.
SIZES = {2: [(6, 7), (3, 7), (2, 4), (11, 14)], 3: [(5, 4, 3), (5, 2, 2), (3, 2, 1), (5, 8, 6)]}
DENSE = [name for name in HEADS if "segmentation" in HEADS[name].TASKS]


class Block(nn.Sequential):
    """What a mirrored decoder repeats: keeps the shape."""

    def __init__(self, dim: int, dims: int) -> None:
        super().__init__(CONV[dims](dim, dim, 3, padding=1), nn.ReLU())


@macs.register
def _(block: Block, size: tuple[int, ...]) -> int:
    return math.prod(size) * block[0].in_channels ** 2 * 3 ** len(size)


@parameter_count.register
def _(block: Block) -> int:
    dim = block[0].in_channels
    return dim * (dim * math.prod(block[0].kernel_size) + 1)


def build(name: str, dims: int, widths: tuple[int, ...] = WIDTHS, outputs: int = OUTPUTS, **knobs: Any) -> nn.Module:
    given = {"dims": dims, "outputs": outputs, "channels": CHANNELS}
    levels = ([Block(width, dims), nn.Sequential(Block(width, dims))] for width in widths)
    given["blocks"] = [nn.Sequential(*level) for level in levels]
    return HEADS[name](widths, **{key: given[key] for key in HEADS.given(name)}, **knobs)


def spread(head: nn.Module) -> nn.Module:
    """Parameters and statistics away from zero and one."""
    generator = torch.Generator().manual_seed(0)
    for parameter in head.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    for norm in (module for module in head.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.3, generator=generator)
        norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return head.double().eval()


def maps(sizes: list[tuple[int, ...]], widths: tuple[int, ...] = WIDTHS, batch: int = 2) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(batch, c, *size) for c, size in zip((*widths, CHANNELS), sizes, strict=True)]
    *features, image = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return features, image


def numbers(tensor: Tensor | None) -> Any:
    return 0.0 if tensor is None else tensor.detach().numpy()


def per_channel(values: Tensor | None, x: Array) -> Any:
    return numbers(values) if values is None else numbers(values).reshape(-1, *(1,) * (x.ndim - 1))


def matrix(target: int, source: int, corners: bool) -> Array:
    """Rows of linear interpolation between the positions of an axis."""
    rows = np.zeros((target, source))
    for i in range(target):
        place = i * (source - 1) / max(target - 1, 1) if corners else max((i + 0.5) * source / target - 0.5, 0.0)
        low = min(int(place), source - 1)
        rows[i, low] += 1 - (place - low)
        rows[i, min(low + 1, source - 1)] += place - low
    return rows


def enlarge(x: Array, size: tuple[int, ...], corners: bool = False) -> Array:
    for axis, length in enumerate(size, start=1):
        x = np.moveaxis(np.tensordot(matrix(length, x.shape[axis], corners), x, (1, axis)), 0, axis)
    return x


def convolve(layer: nn.Module, x: Array) -> Array:
    """Sum over taps and the input channels of each group; zero outside, stride 1."""
    weight, out = numbers(layer.weight), np.zeros((layer.out_channels, *x.shape[1:]))
    padded = np.pad(x, [(0, 0), *((pad, pad) for pad in layer.padding)])
    padded = padded.reshape(layer.groups, -1, *padded.shape[1:])
    weight = weight.reshape(layer.groups, -1, *weight.shape[1:])
    for taps in itertools.product(*map(range, layer.kernel_size)):
        window = [slice(t * d, t * d + n) for t, d, n in zip(taps, layer.dilation, x.shape[1:], strict=True)]
        out += np.einsum("goi,gi...->go...", weight[(..., *taps)], padded[(..., *window)]).reshape(out.shape)
    return out + per_channel(layer.bias, x)


def double(layer: nn.Module, x: Array) -> Array:
    """Transposed convolution of edge and stride 2: every position becomes a cell."""
    out = np.zeros((layer.out_channels, *(2 * length for length in x.shape[1:])))
    for taps in itertools.product((0, 1), repeat=x.ndim - 1):
        cell = (slice(None), *(slice(tap, None, 2) for tap in taps))
        out[cell] = np.einsum("io,i...->o...", numbers(layer.weight)[(..., *taps)], x)
    return out + per_channel(layer.bias, x)


def layer_norm(norm: nn.LayerNorm, x: Array) -> Array:
    """Over the channels, which come first."""
    centred = x - x.mean(0)
    scaled = centred / np.sqrt((centred**2).mean(0) + norm.eps)
    return scaled * per_channel(norm.weight, x) + per_channel(norm.bias, x)


def batch_norm(norm: nn.Module, x: Array) -> Array:
    scale = per_channel(norm.weight, x) / np.sqrt(per_channel(norm.running_var, x) + norm.eps)
    return (x - per_channel(norm.running_mean, x)) * scale + per_channel(norm.bias, x)


def instance_norm(norm: nn.Module, x: Array) -> Array:
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + norm.eps)
    return scaled * per_channel(norm.weight, x) + per_channel(norm.bias, x)


def linear(layer: nn.Linear, x: Array) -> Array:
    return np.tensordot(numbers(layer.weight), x, 1) + per_channel(layer.bias, x)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


STEPS: list[tuple[type, Callable[[Any, Array], Array]]] = [
    (nn.Conv2d, convolve),
    (nn.Conv3d, convolve),
    (nn.ConvTranspose2d, double),
    (nn.ConvTranspose3d, double),
    (nn.Linear, linear),
    (nn.LayerNorm, layer_norm),
    (nn.BatchNorm2d, batch_norm),
    (nn.BatchNorm3d, batch_norm),
    (nn.GroupNorm, instance_norm),
    (nn.Identity, lambda layer, x: x),
    (nn.ReLU, lambda layer, x: np.maximum(x, 0)),
    (nn.LeakyReLU, lambda layer, x: np.where(x > 0, x, 0.01 * x)),
    (nn.GELU, lambda layer, x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
    (nn.SiLU, lambda layer, x: x * sigmoid(x)),
    (nn.Sigmoid, lambda layer, x: sigmoid(x)),
    (nn.Softmax, lambda layer, x: softmax(x)),
]


def run(layer: nn.Module, x: Array) -> Array:
    """One layer, or one after the other, on (C, *S)."""
    if isinstance(layer, nn.Sequential | Separable):
        for inner in layer.children():
            x = run(inner, x)
        return x
    return next(step for kind, step in STEPS if isinstance(layer, kind))(layer, x)


def raise_to(size: tuple[int, ...], up: nn.Module, x: Array) -> Array:
    """Transposed convolution, then without the positions too many, or averaged; or interpolation, then a map."""
    if "Transpose" not in type(up.conv).__name__:
        return run(up.conv, enlarge(x, size))
    x = run(up.conv, x)
    if all(0 <= seen - wanted <= 1 for seen, wanted in zip(x.shape[1:], size, strict=True)):
        return x[(slice(None), *map(slice, size))]
    return enlarge(x, size)


def classify(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = features[-1] if head.placed in ("pooled", "none") else run(head.norm, features[-1])
    mean = x.reshape(len(x), -1).mean(1)
    return run(head.linear, run(head.norm, mean) if head.placed == "pooled" else mean)


def pyramid(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = 0.0
    for level in reversed(range(len(features))):
        lateral = run(head.laterals[level], features[level])
        x = lateral + (enlarge(x, lateral.shape[1:]) if isinstance(x, np.ndarray) else 0.0)
        x = x + run(head.refines[level], x)
    x = run(head.squeeze, enlarge(x, image.shape[1:]))
    return run(head.predict, run(head.fuse, np.concatenate([x, run(head.image, image)])))


def allmlp(head: nn.Module, features: list[Array], image: Array) -> Array:
    """W4 ReLU(BN(W3 concat_i resize(LN(W2_i x_i)))), W3 one matrix over all levels."""
    mapped = [run(n, run(m, x)) for m, n, x in zip(head.linears, head.norms, features, strict=True)]
    joined = np.concatenate([enlarge(x, features[0].shape[1:]) for x in mapped])
    fuse = np.concatenate([numbers(layer.weight) for layer in head.fuses], axis=1)
    x = np.maximum(run(head.norm, np.tensordot(fuse, joined, 1)), 0)
    return enlarge(run(head.predict, x), image.shape[1:])


def unet(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = features[-1]
    for level in reversed(range(len(features) - 1)):
        skip = features[level]
        x = run(head.blocks[level], np.concatenate([skip, raise_to(skip.shape[1:], head.ups[level], x)]))
    return enlarge(run(head.predict, x), image.shape[1:])


def mla(head: nn.Module, features: list[Array], image: Array) -> Array:
    """Every deep level: 1x1, norm, ReLU, enlarge, level by level; sums top-down; two 3x3; doubled; joined; 3x3."""

    def relu_norm(climb: nn.Module, step: int, x: Array) -> Array:
        return np.maximum(run(climb.norms[step], run(climb.convs[step], x)), 0)

    total = relu_norm(head.lateral, 0, features[0]) if len(head.lateral.convs) else features[0]
    refined = [run(head.refines[0], total)]
    for level, climb in enumerate(head.climbs, start=1):
        x = features[level]
        for step, finer in enumerate(reversed(range(level))):
            x = enlarge(relu_norm(climb, step, x), features[finer].shape[1:], corners=True)
        total = total + x
        refined.append(run(head.refines[level], total))
    twice = tuple(min(2 * n, m) for n, m in zip(total.shape[1:], image.shape[1:], strict=True))
    joined = np.concatenate([enlarge(x, twice, corners=True) for x in refined])
    return enlarge(run(head.predict, joined), image.shape[1:], corners=True)


def add_gate(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = features[-1]
    for level in reversed(range(len(features) - 1)):
        skip, gate = features[level], head.gates[level]
        x = skip + run(head.norms[level], run(head.reduces[level], enlarge(x, skip.shape[1:], corners=True)))
        x = x * run(gate.channel, x)
        x = x * sigmoid(run(gate.spatial, x))
        x = run(head.mirrors[level], x) if hasattr(head, "mirrors") else x
    return run(head.predict, enlarge(x, image.shape[1:], corners=True))


def csff(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = features[-1]
    for level in reversed(range(len(features) - 1)):
        skip, fusion = features[level], head.fusions[level]
        x = np.concatenate([skip, raise_to(skip.shape[1:], head.ups[level], x)])
        x = x * run(fusion.channel, x.reshape(len(x), -1).mean(1)).reshape(-1, *(1,) * (x.ndim - 1))
        x = x * sigmoid(run(fusion.spatial, np.stack([x.mean(0), x.max(0)])))
        x = run(fusion.mix, x)
    return enlarge(run(head.predict, x), image.shape[1:])


def mff(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = features[-1]
    for level in reversed(range(len(features) - 1)):
        skip, join, branches = features[level], head.joins[level], head.branches[level]
        x = np.concatenate([raise_to(skip.shape[1:], head.ups[level], x), skip])
        y = run(join.mix_norm, run(join.mix, run(join.act, run(join.norm, run(join.conv, x)))))
        x = run(join.act, y + run(join.skip, x))
        mean = x.reshape(len(x), -1).mean(1)
        importance, expert = run(branches.branch, mean), run(branches.expert, mean)
        found = []
        for weight, mixture in zip(importance, branches.mixtures, strict=True):
            filtered = run(mixture.filters, x).reshape(len(x), len(expert), *x.shape[1:])
            y = sum(e * filtered[:, k] for k, e in enumerate(expert))
            y = sum(e * np.tensordot(numbers(mixture.mix_EOC)[k], y, 1) for k, e in enumerate(expert))
            found.append(weight * run(mixture.act, run(mixture.norm, y)))
        joined = np.concatenate(found)
        mean = np.pad(joined.reshape(len(joined), -1).mean(1), 1)
        gate = sigmoid(np.correlate(mean, numbers(branches.gate.weight).reshape(3), "valid"))
        x = run(branches.norm, run(branches.fuse, joined * gate.reshape(-1, *(1,) * (x.ndim - 1))))
        x = run(head.norms[level], np.maximum(x, 0))
    return enlarge(run(head.predict, x), image.shape[1:])


def cells(x: Array, grid: int) -> Array:
    """The mean of every cell of a grid; cell i of n positions is from floor(i n / grid) to ceil((i + 1) n / grid)."""
    out = np.zeros((len(x), *(grid,) * (x.ndim - 1)))
    for cell in itertools.product(range(grid), repeat=x.ndim - 1):
        ends = [(i * n / grid, (i + 1) * n / grid) for i, n in zip(cell, x.shape[1:], strict=True)]
        window = [slice(math.floor(start), math.ceil(end)) for start, end in ends]
        out[(slice(None), *cell)] = x[(slice(None), *window)].reshape(len(x), -1).mean(1)
    return out


def uper(head: nn.Module, features: list[Array], image: Array) -> Array:
    last = features[-1]
    pooled = [run(pool.step, cells(last, grid)) for grid, pool in zip((1, 2, 3, 6), head.pools, strict=True)]
    x = run(head.bottleneck, np.concatenate([last, *(enlarge(x, last.shape[1:]) for x in pooled)]))
    found = [enlarge(x, features[0].shape[1:])]
    for level in reversed(range(len(features) - 1)):
        x = run(head.laterals[level], features[level]) + enlarge(x, features[level].shape[1:])
        found.insert(0, enlarge(run(head.refines[level], x), features[0].shape[1:]))
    return enlarge(run(head.predict, run(head.fuse, np.concatenate(found))), image.shape[1:])


def residual(block: nn.Module, x: Array) -> Array:
    return np.maximum(run(block.body, x) + run(block.skip, x), 0)


def mirror_unetr(head: nn.Module, features: list[Array], image: Array) -> Array:
    skips = [residual(block, x) for block, x in zip(head.skips, features, strict=True)]
    x = skips.pop()
    for level, skip in reversed(list(enumerate(skips))):
        x = residual(head.joins[level], np.concatenate([raise_to(skip.shape[1:], head.ups[level], x), skip]))
    return enlarge(run(head.predict, x), image.shape[1:])


def attend(layer: nn.Module, q: Array, k: Array, v: Array) -> Array:
    """Vectors are columns; softmax(q k / sqrt(width of a head)) v, head by head."""
    q, k, v = run(layer.q, q), run(layer.k, k), run(layer.v, v)
    width = len(q) // layer.heads
    found = []
    for rows in (slice(h * width, (h + 1) * width) for h in range(layer.heads)):
        found.append(v[rows] @ softmax(q[rows].T @ k[rows] / math.sqrt(width)).T)
    return run(layer.out, np.concatenate(found))


def mask_token(head: nn.Module, features: list[Array], image: Array) -> Array:
    x = run(head.neck, features[-1])
    size, dim = x.shape[1:], len(x)
    unit = np.meshgrid(*((np.arange(n) + 0.5) / n for n in size), indexing="ij")
    angle = 2 * np.pi * np.tensordot(numbers(head.frequency_SC).T, 2 * np.stack(unit) - 1, 1).reshape(dim // 2, -1)
    place = np.concatenate([np.sin(angle), np.cos(angle)])
    start = numbers(head.tokens_TC).T
    t, x = start, x.reshape(dim, -1)
    for index, block in enumerate(head.blocks):
        q = t if index == 0 else t + start
        seen = attend(block.own, q, q, t)
        t = run(block.norms[0], seen if index == 0 else t + seen)
        t = run(block.norms[1], t + attend(block.look, t + start, x + place, x))
        t = run(block.norms[2], t + run(block.mlp, t))
        x = run(block.norms[3], x + attend(block.tell, x + place, t + start, t))
    t = run(head.norm, t + attend(head.look, t + start, x + place, x))
    x = x.reshape(dim, *size)
    for up, norm in zip(head.ups, (head.up_norm, nn.Identity()), strict=True):
        size = tuple(min(2 * n, m) for n, m in zip(size, image.shape[1:], strict=True))
        x = run(nn.GELU(), run(norm, raise_to(size, up, x)))
    filters = np.stack([run(draw, t[:, head.registers + k]) for k, draw in enumerate(head.hyper)])
    return enlarge(np.tensordot(filters, x, 1), image.shape[1:])


EQUATIONS = [
    ("classify", classify, {}),
    ("classify", classify, {"norm": "tokens"}),
    ("classify", classify, {"norm": "batch"}),
    ("classify", classify, {"norm": "none"}),
    ("pyramid", pyramid, {"dim": 4, "detail": 3}),
    ("allmlp", allmlp, {"dim": 7}),
    ("allmlp", allmlp, {"dim": 7, "norm": "none"}),
    ("unet", unet, {}),
    ("unet", unet, {"ratio": 0.5, "up": "transpose", "norm": "instance"}),
    ("mla", mla, {"dim": 4}),
    ("mla", mla, {"dim": WIDTHS[0]}),
    ("add_gate", add_gate, {"rate": 2, "kernel": 3}),
    ("mirrored_add_gate", add_gate, {"kernel": 5}),
    ("csff", csff, {"kernel": 3}),
    ("csff", csff, {"rate": 3, "up": "transpose"}),
    ("mff", mff, {}),
    ("mff", mff, {"experts": 2, "up": "resize"}),
    ("uper", uper, {"dim": 4}),
    ("uper", uper, {"dim": 4, "norm": "none"}),
    ("mirror_unetr", mirror_unetr, {}),
    ("mirror_unetr", mirror_unetr, {"up": "resize"}),
    ("mask_token", mask_token, {"dim": 16, "heads": 2}),
    ("mask_token", mask_token, {"dim": 8, "heads": 1, "depth": 1, "registers": 0}),
]


@pytest.mark.parametrize(("name", "equation", "knobs"), EQUATIONS, ids=lambda value: str(value).partition(" at ")[0])
@pytest.mark.parametrize("dims", [2, 3])
def test_equals_its_equation_in_the_order_of_the_paper(
    name: str, equation: Callable[..., Array], knobs: dict[str, Any], dims: int
) -> None:
    head = spread(build(name, dims, **knobs))
    features, image = maps(SIZES[dims])
    with torch.no_grad():
        seen = head(features, image).numpy()
    for index in range(len(seen)):
        expected = equation(head, [numbers(x[index]) for x in features], numbers(image[index]))
        assert seen[index].shape == expected.shape
        assert np.abs(seen[index] - expected).max() <= 1e-10 * np.abs(expected).max()
        assert np.abs(expected).max() > 1e-3


def test_every_head_has_an_equation() -> None:
    assert {name for name, _, _ in EQUATIONS} == set(HEADS)


def test_a_doubled_map_is_cut_where_one_position_is_too_many_and_averaged_where_all_are() -> None:
    x_BCS = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert torch.equal(fit(x_BCS, (3, 6)), x_BCS[:, :, :3])
    assert torch.equal(fit(x_BCS, (4, 3)), (x_BCS[..., ::2] + x_BCS[..., 1::2]) / 2)


# Stages of a stem of stride 1, 2, 4 and 16, halving everywhere, nowhere, and along one axis only.
LADDERS = [
    [(9, 11), (9, 11)],
    [(5, 6), (3, 3), (3, 3), (2, 2), (1, 1), (9, 11)],
    [(3, 4), (3, 2), (11, 13)],
    [(1, 2), (16, 17)],
    [(1, 1), (1, 1)],
    [(6, 5, 4), (6, 3, 2), (3, 2, 1), (6, 5, 4)],
    [(2, 1, 1), (1, 1, 1), (8, 4, 3)],
]


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("sizes", LADDERS, ids=str)
def test_any_number_and_ratio_of_levels(name: str, sizes: list[tuple[int, ...]]) -> None:
    widths = (6, 8, 5, 9, 7)[: len(sizes) - 1]
    head = build(name, len(sizes[0]), widths).double().eval()
    features, image = maps(sizes, widths, batch=1)
    assert count(lambda: head(features, image)) == macs(head, sizes)
    assert sum(parameter.numel() for parameter in head.parameters()) == parameter_count(head)
    y = head(features, image)
    assert y.shape == (1, OUTPUTS, *sizes[-1])
    assert y.isfinite().all()


@pytest.mark.parametrize(
    ("name", "dims", "widths", "outputs", "knobs", "weights"),
    [
        ("allmlp", 3, (32, 64, 160, 256), 3, {"dim": 256}, 397_571),  # SegFormer3D
        ("mla", 2, (64, 128, 256, 512), 9, {}, 539_273),  # MSLAU-Net
        (
            "add_gate",
            2,
            (64, 128, 256, 512),
            9,
            {"kernel": 7},
            8_608_960 - 6_282_368,
        ),  # TCSAFormer without its mirrored blocks
        ("mask_token", 2, (96,), 3, {"dim": 256, "heads": 8}, 615_424 + 1_947_072),  # HRMedSeg, neck and decoder
        ("mirror_unetr", 3, (24, 48, 96, 192, 384), 4, {}, 44_116_968 - 28_652_804),  # FullMLP without its encoder
        ("classify", 2, (32, 64, 128, 256), 1000, {"norm": "batch"}, 257_512),  # MedFormer-T
    ],
)
def test_published_decoders_have_their_number_of_weights(
    name: str, dims: int, widths: tuple[int, ...], outputs: int, knobs: dict[str, Any], weights: int
) -> None:
    with torch.device("meta"):
        head = build(name, dims, widths, outputs, **knobs)
    assert parameter_count(head) == weights
    assert sum(parameter.numel() for parameter in head.parameters()) == weights


def test_allmlp_fuses_before_it_enlarges_at_a_third_of_the_cost() -> None:
    """SegFormer3D at 128^3: 32^3 positions, 4 * 256 joined channels."""
    sizes = [(32,) * 3, (16,) * 3, (8,) * 3, (4,) * 3, (128,) * 3]
    widths, dim, outputs = (32, 64, 160, 256), 256, 3
    with torch.device("meta"):
        head = build("allmlp", 3, widths, outputs, dim=dim)
    released = sum(math.prod(size) * width * dim for size, width in zip(sizes, widths, strict=False))
    released += 32**3 * (4 * dim * dim + dim * outputs)
    assert round(released / 1e9, 2) == 8.98
    assert macs(head, sizes) < released / 3


def test_uper_trains_on_one_image() -> None:
    head = build("uper", 2).train()
    features, image = maps(SIZES[2], batch=1)
    head([x.float() for x in features], image.float()).sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    ("name", "knobs", "advice"),
    [
        ("mask_token", {"dim": 50}, "got 50; try 48"),
        ("mask_token", {"dim": 64, "heads": 12}, "twice heads 12, got 64; try 72"),
        ("add_gate", {"kernel": 4}, "kernel must be odd to keep the size, got 4; try 5"),
        ("unet", {"ratio": 0}, "ratio must be a number above 0, got 0; try 1.0"),
        ("unet", {"ratio": True}, "got True"),
        ("mff", {"up": "nearest"}, "mff: up must be one of 'resize', 'transpose', got 'nearest'"),
    ],
)
def test_a_wrong_value_is_refused_with_a_legal_one(name: str, knobs: dict[str, Any], advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        build(name, 2, **knobs)
