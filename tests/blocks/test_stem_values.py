"""Stems and downsamplings against their equations, worked out here in double precision from the tensors alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES, STEMS
from oracles import macs, parameter_count

SIZES = [(9, 11), (5, 6, 7)]
every_size = pytest.mark.parametrize("size", SIZES, ids=str)
both_dims = pytest.mark.parametrize("dims", [2, 3])


def in_other_state(part: nn.Module) -> nn.Module:
    """In double precision, no tensor at its starting value."""
    for parameter in part.double().parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for norm in (module for module in part.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.3)
        norm.running_var.uniform_(0.5, 2.0)
    return part.eval()


def stem(name: str, size: tuple[int, ...], dim: int = 8, channels: int = 3, **knobs: Any) -> tuple[Any, Tensor]:
    part = in_other_state(STEMS[name](channels, dim, dims=len(size), **knobs))
    return part, torch.randn(2, channels, *size, dtype=torch.float64)


def down(name: str, size: tuple[int, ...], in_dim: int = 4, dim: int = 6, **knobs: Any) -> tuple[Any, Tensor]:
    part = in_other_state(DOWNSAMPLES[name](in_dim, dim, dims=len(size), **knobs))
    return part, torch.randn(2, in_dim, *size, dtype=torch.float64)


def across(vector_C: Tensor, x_BCS: Tensor) -> Tensor:
    return vector_C.reshape(-1, *[1] * (x_BCS.ndim - 2))


def layer_norm(norm: nn.LayerNorm, x_BCS: Tensor) -> Tensor:
    centred = x_BCS - x_BCS.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return normed * across(norm.weight, x_BCS) + across(norm.bias, x_BCS)


def batch_norm(norm: Any, x_BCS: Tensor) -> Tensor:
    normed = (x_BCS - across(norm.running_mean, x_BCS)) / (across(norm.running_var, x_BCS) + 1e-5).sqrt()
    return normed * across(norm.weight, x_BCS) + across(norm.bias, x_BCS)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def convolved(layer: Any, x_BCS: Tensor, stride: tuple[int, ...], *, centred: bool = True) -> Tensor:
    """Windows around every stride-th position, or side by side from the first on; zeros around the map."""
    kernel, size = layer.weight.shape[2:], x_BCS.shape[2:]
    pads: list[int] = []
    for edge in reversed(kernel):
        pads += [edge // 2 if centred else 0, edge]
    padded = nn.functional.pad(x_BCS, pads)
    left = [math.ceil(length / step) for length, step in zip(size, stride, strict=True)]
    y_BCS = torch.zeros(len(x_BCS), len(layer.weight), *left, dtype=x_BCS.dtype)
    for offset in itertools.product(*map(range, kernel)):
        read = tuple(
            slice(start, start + step * (many - 1) + 1, step)
            for start, step, many in zip(offset, stride, left, strict=True)
        )
        window = padded[(slice(None), slice(None), *read)]
        y_BCS += torch.einsum("oc,bc...->bo...", layer.weight[(slice(None), slice(None), *offset)], window)
    return y_BCS if layer.bias is None else y_BCS + across(layer.bias, y_BCS)


CONV_STEMS = [
    ((9, 11), 1, [(1, 1)], [8]),
    ((9, 11), "2x2", [(2, 2)], [8]),
    ((9, 11), 4, [(2, 2), (2, 2)], [4, 8]),
    ((9, 11), "1x4", [(1, 2), (1, 2)], [4, 8]),
    ((5, 6, 17), "1x2x8", [(1, 2, 2), (1, 1, 2), (1, 1, 2)], [2, 4, 8]),
]


@pytest.mark.parametrize(("size", "stride", "steps", "widths"), CONV_STEMS)
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_conv_halves_axes_first_and_doubles_widths(
    size: tuple[int, ...], stride: int | str, steps: list[tuple[int, ...]], widths: list[int], bias: bool
) -> None:
    part, x = stem("conv", size, stride=stride, bias=bias)
    layers = list(part.layers)
    y = x
    for i, (step, width) in enumerate(zip(steps, widths, strict=True)):
        y = batch_norm(layers[3 * i + 1], convolved(layers[3 * i], gelu(y) if i else y, step))
        assert y.shape[1] == width and (layers[3 * i].bias is not None) == bias
    torch.testing.assert_close(part(x), y)
    assert part.scale(size) == y.shape[2:]


@every_size
@torch.no_grad()
def test_conv_is_the_stem_of_l2vit(size: tuple[int, ...]) -> None:
    """Biases, ReLU between, and a LayerNorm behind the last BatchNorm."""
    part, x = stem("conv", size, stride=4, act="relu", bias=True, last="layer")
    first, first_norm, _, second, second_norm, last_norm = part.layers
    half = batch_norm(first_norm, convolved(first, x, (2,) * len(size))).clamp_min(0)
    expected = layer_norm(last_norm, batch_norm(second_norm, convolved(second, half, (2,) * len(size))))
    torch.testing.assert_close(part(x), expected)


@every_size
@torch.no_grad()
def test_conv_without_norm_is_one_convolution(size: tuple[int, ...]) -> None:
    part, x = stem("conv", size, stride=1, norm="none", bias=True)
    torch.testing.assert_close(part(x), convolved(part.layers[0], x, (1,) * len(size)))


@pytest.mark.parametrize("width", [None, 6])
@pytest.mark.parametrize(
    ("size", "stride", "first", "last"),
    [((9, 11), 4, (2, 2), (2, 2)), ((5, 6, 7), "1x2x4", (1, 2, 2), (1, 1, 2))],
)
@torch.no_grad()
def test_conv4_strides_first_and_last(
    size: tuple[int, ...], stride: int | str, first: tuple[int, ...], last: tuple[int, ...], width: int | None
) -> None:
    part, x = stem("conv4", size, stride=stride, width=width)
    layers, one = list(part.layers), (1,) * len(size)
    y = x
    for i, step in enumerate((first, one, one, last)):
        y = batch_norm(layers[3 * i + 1], convolved(layers[3 * i], y, step)).clamp_min(0)
        assert y.shape[1] == (width or 8) // (2 if i == 1 else 1) and layers[3 * i].bias is None
    if width is not None:
        y = batch_norm(layers[13], convolved(layers[12], y, one))
    torch.testing.assert_close(part(x), y)
    assert part.scale(size) == y.shape[2:]


@pytest.mark.parametrize(("size", "patch", "window"), [((9, 11), 4, (4, 4)), ((5, 6, 7), "1x3x2", (1, 3, 2))])
@pytest.mark.parametrize("norm", ["layer", "none"])
@torch.no_grad()
def test_patch_embeds_windows_side_by_side(
    size: tuple[int, ...], patch: int | str, window: tuple[int, ...], norm: str
) -> None:
    part, x = stem("patch", size, patch=patch, norm=norm)
    y = convolved(part.embed, x, window, centred=False)
    torch.testing.assert_close(part(x), layer_norm(part.norm, y) if norm == "layer" else y)
    assert part.scale(size) == y.shape[2:]


def resized(length: int, new: int) -> Tensor:
    """(new, length): linear interpolation between the centres of positions, the ends held."""
    weight = torch.zeros(new, length, dtype=torch.float64)
    for i in range(new):
        place = min(max((i + 0.5) * length / new - 0.5, 0.0), length - 1.0)
        low = min(int(place), length - 2)
        weight[i, low], weight[i, low + 1] = low + 1 - place, place - low
    return weight


@both_dims
@torch.no_grad()
def test_patch_adds_a_table_that_fits_any_map(dims: int) -> None:
    part, x = stem("patch", (12,) * dims, patch=2, norm="none", position=6)
    plain = convolved(part.embed, x, (2,) * dims, centred=False)
    torch.testing.assert_close(part(x), plain + part.position)
    part, x = stem("patch", (6, 14, 7)[:dims], patch=2, norm="none", position="x".join("465"[:dims]))
    table = part.position
    for axis, (old, new) in enumerate(zip((4, 6, 5), (3, 7, 4), strict=True)):
        if axis < dims:
            table = torch.tensordot(table, resized(old, new), dims=([2 + axis], [1])).movedim(-1, 2 + axis)
    torch.testing.assert_close(part(x), convolved(part.embed, x, (2,) * dims, centred=False) + table)


OVERLAPS = [((9, 11), {}, (4, 4), (7, 7)), ((5, 6, 7), {"kernel": "1x5x3", "stride": "1x4x2"}, (1, 4, 2), (1, 5, 3))]


@pytest.mark.parametrize(("size", "knobs", "stride", "kernel"), OVERLAPS)
@torch.no_grad()
def test_an_overlapping_stem_is_a_strided_convolution_and_layer_norm(
    size: tuple[int, ...], knobs: dict[str, Any], stride: tuple[int, ...], kernel: tuple[int, ...]
) -> None:
    part, x = stem("overlap", size, **knobs)
    y = layer_norm(part.norm, convolved(part.embed, x, stride))
    torch.testing.assert_close(part(x), y)
    assert part.embed.kernel_size == kernel and part.scale(size) == y.shape[2:]


def fused(part: Any, x_BKS: Tensor, channels: list[int]) -> Tensor:
    """Tokens of the chosen channels, weighted by the softmax of their products with the query."""
    tokens, scores = [], []
    for channel in channels:
        token = convolved(part.embed, x_BKS[:, channel : channel + 1], part.window, centred=False)
        tokens.append(token + across(part.channel_KC[channel], token))
        scores.append((tokens[-1] * across(part.query_C, token)).sum(1, keepdim=True) / math.sqrt(part.dim))
    exponentials = [score.exp() for score in scores]
    return layer_norm(part.norm, sum(e * t for e, t in zip(exponentials, tokens, strict=True)) / sum(exponentials))


@every_size
@torch.no_grad()
def test_per_channel_fuses_channels_by_a_query(size: tuple[int, ...]) -> None:
    part, x = stem("per_channel", size, channels=4, patch=3)
    torch.testing.assert_close(part(x), fused(part, x, [0, 1, 2, 3]))
    torch.testing.assert_close(part(x[:, [3, 1]], present=(3, 1)), fused(part, x, [1, 3]))


@torch.no_grad()
def test_per_channel_trains_on_samples_of_channels() -> None:
    """As many channels as any other number, then any of them; the same sample for the same seed."""
    part, _ = stem("per_channel", (4, 4), channels=3, patch=4)
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64).expand(4000, -1, -1, -1)
    subsets = [list(s) for many in (1, 2, 3) for s in itertools.combinations(range(3), many)]
    expected = torch.cat([fused(part, images[:1], subset) for subset in subsets])
    assert torch.equal(part(images[:2]), part(images[:2]))
    part.train()
    torch.manual_seed(1)
    seen = part(images)
    distance = (seen.unsqueeze(1) - expected.unsqueeze(0)).flatten(2).norm(dim=2)
    assert distance.amin(1).max() < 1e-9
    share = distance.argmin(1).bincount(minlength=7) / 4000
    torch.testing.assert_close(share, torch.tensor([1 / 9] * 6 + [1 / 3]), atol=0.025, rtol=0)
    torch.manual_seed(1)
    assert torch.equal(part(images), seen)
    part.sample = False
    torch.testing.assert_close(part(images[:2]), expected[-1:].expand(2, -1, -1, -1))


DOWNS = [((9, 11), 2, (2, 2)), ((5, 6, 7), "1x2x2", (1, 2, 2))]
every_down = pytest.mark.parametrize(("size", "stride", "steps"), DOWNS)


@every_down
@pytest.mark.parametrize(("norm", "bias"), [("batch", False), ("batch", True), ("layer", True), ("none", True)])
@torch.no_grad()
def test_conv3s2_is_a_strided_convolution_and_a_norm(
    size: tuple[int, ...], stride: int | str, steps: tuple[int, ...], norm: str, bias: bool
) -> None:
    part, x = down("conv3s2", size, stride=stride, norm=norm, bias=bias)
    norms = {"batch": batch_norm, "layer": layer_norm, "none": lambda _, y: y}
    y = norms[norm](part.norm, convolved(part.reduce, x, steps))
    torch.testing.assert_close(part(x), y)
    assert part.scale(size) == y.shape[2:] and (part.reduce.bias is not None) == bias


@every_down
@pytest.mark.parametrize("norm", ["before", "after", "none"])
@torch.no_grad()
def test_conv2s2_has_its_norm_on_either_side(
    size: tuple[int, ...], stride: int | str, steps: tuple[int, ...], norm: str
) -> None:
    part, x = down("conv2s2", size, stride=stride, norm=norm)
    y = convolved(part.reduce, layer_norm(part.norm, x) if norm == "before" else x, steps, centred=False)
    y = layer_norm(part.norm, y) if norm == "after" else y
    torch.testing.assert_close(part(x), y)
    assert part.scale(size) == y.shape[2:]


@every_down
@torch.no_grad()
def test_merge_puts_neighbours_side_by_side(size: tuple[int, ...], stride: int | str, steps: tuple[int, ...]) -> None:
    part, x = down("merge", size, stride=stride)
    left = [math.ceil(length / step) for length, step in zip(size, steps, strict=True)]
    expected = torch.zeros(2, 6, *left, dtype=torch.float64)
    for place in itertools.product(*map(range, left)):
        side_by_side = []
        for offset in itertools.product(*map(range, steps)):
            at = [p * step + o for p, step, o in zip(place, steps, offset, strict=True)]
            inside = all(a < length for a, length in zip(at, size, strict=True))
            side_by_side.append(x[(..., *at)] if inside else torch.zeros(2, 4, dtype=torch.float64))
        merged = layer_norm(part.norm, torch.cat(side_by_side, 1))
        expected[(..., *place)] = merged @ part.reduce.weight.T
    torch.testing.assert_close(part(x), expected)
    assert part.scale(size) == expected.shape[2:]


@every_down
@torch.no_grad()
def test_avg1x1_takes_means_of_what_is_there(size: tuple[int, ...], stride: int | str, steps: tuple[int, ...]) -> None:
    part, x = down("avg1x1", size, stride=stride)
    left = [math.ceil(length / step) for length, step in zip(size, steps, strict=True)]
    mean = torch.zeros(2, 4, *left, dtype=torch.float64)
    for place in itertools.product(*map(range, left)):
        window = tuple(slice(p * step, (p + 1) * step) for p, step in zip(place, steps, strict=True))
        mean[(..., *place)] = x[(..., *window)].flatten(2).mean(2)
    torch.testing.assert_close(part(x), batch_norm(part.norm, convolved(part.reduce, mean, (1,) * len(size))))
    assert part.scale(size) == tuple(left)


@every_down
@torch.no_grad()
def test_an_overlapping_down_is_a_strided_convolution_and_layer_norm(
    size: tuple[int, ...], stride: int | str, steps: tuple[int, ...]
) -> None:
    part, x = down("overlap", size, stride=stride)
    y = layer_norm(part.norm, convolved(part.reduce, x, steps))
    torch.testing.assert_close(part(x), y)
    assert part.scale(size) == y.shape[2:]


@every_size
@torch.no_grad()
def test_none_keeps_the_map(size: tuple[int, ...]) -> None:
    part, x = down("none", size)
    torch.testing.assert_close(part(x), convolved(part.project, x, (1,) * len(size)))
    part, x = down("none", size, dim=4)
    assert torch.equal(part(x), x)
    assert part.scale(size) == size and parameter_count(part) == macs(part, size) == 0


@every_size
@pytest.mark.parametrize(("keep", "dim"), [(0.5, 4), (0.7, 6)])
@torch.no_grad()
def test_keep_and_fuse_keeps_the_most_important(size: tuple[int, ...], keep: float, dim: int) -> None:
    part, x = down("keep_and_fuse", size, dim=dim, keep=keep)
    tokens = math.prod(size)
    kept = math.ceil(keep * tokens)
    for image, seen in zip(x, part(x), strict=True):
        x_NC = image.flatten(1).T
        z_NC = (x_NC - x_NC.mean(1, keepdim=True)) / (x_NC.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        score = [float(z @ z_NC.mean(0)) / 2 for z in z_NC]
        total = sum(map(math.exp, score))
        best = sorted(range(tokens), key=lambda n: -score[n])
        expected = [x_NC[n] for n in sorted(best[:kept])]
        expected.append(sum(x_NC[n] * math.exp(score[n]) / total for n in best[kept:]))
        y_MC = torch.stack(expected)
        y_MC = y_MC if dim == 4 else y_MC @ part.project.weight.T + part.project.bias
        torch.testing.assert_close(seen, y_MC.T.reshape(dim, kept + 1, *[1] * (len(size) - 1)))
    assert part.scale(size) == (kept + 1, *[1] * (len(size) - 1))


@torch.no_grad()
def test_keep_and_fuse_takes_the_first_of_equal_tokens() -> None:
    """Two kinds of token, taking turns; of the kind that is rarer the first are kept, and nothing goes astray."""
    part, _ = down("keep_and_fuse", (10, 10), dim=4, keep=0.6)
    kinds_2C = torch.randn(2, 4, dtype=torch.float64)
    kind_N = (torch.arange(100) % 3 == 0).long()
    y_CM = part(kinds_2C[kind_N].T.reshape(1, 4, 10, 10))[0, :, :, 0]
    seen = [int(torch.cdist(token[None], kinds_2C).argmin()) for token in y_CM.T[:-1]]
    either = []
    for best in (0, 1):
        order = sorted(range(100), key=lambda n: (int(kind_N[n]) != best, n))
        either.append([int(kind_N[n]) for n in sorted(order[:60])])
    assert seen in either


def test_keep_and_fuse_leaves_as_many_tokens_as_evit() -> None:
    """196 patches at rate 0.7, three times: 138 + 1, 98 + 1, 70 + 1."""
    part = DOWNSAMPLES["keep_and_fuse"](4, 4, dims=2)
    sizes = list(itertools.accumulate(range(3), lambda size, _: part.scale(size), initial=(14, 14)))
    assert sizes[1:] == [(139, 1), (99, 1), (71, 1)]
    assert DOWNSAMPLES["keep_and_fuse"](4, 4, dims=3, keep=1.0).scale((2, 3, 4)) == (24, 1, 1)


PUBLISHED = [
    # MedFormer-T: 3 -> 16 -> 32, 3 x 3 with biases and BatchNorm, and 32 -> 64
    (STEMS, "conv", (3, 32), {"stride": 4, "bias": True}, 27 * 16 + 16 * 3 + 9 * 16 * 32 + 32 * 3),
    (DOWNSAMPLES, "conv3s2", (32, 64), {"bias": True}, 9 * 32 * 64 + 64 * 3),
    # L2ViT-T: as above with a LayerNorm behind
    (
        STEMS,
        "conv",
        (3, 96),
        {"stride": 4, "act": "relu", "bias": True, "last": "layer"},
        27 * 48 + 48 * 3 + 9 * 48 * 96 + 96 * 5,
    ),
    # MedViTV2-B: 64, 32, 64, 64 and on to 96
    (
        STEMS,
        "conv4",
        (3, 96),
        {"width": 64},
        27 * 64 + 2 * 9 * 64 * 32 + 9 * 64 * 64 + 2 * (64 + 32 + 64 + 64) + 64 * 96 + 192,
    ),
    (DOWNSAMPLES, "avg1x1", (64, 128), {}, 64 * 128 + 256),
    # SegFormer3D: 7^3 with stride 4 from four channels, then 3^3
    (STEMS, "overlap", (4, 32), {"dims": 3}, 343 * 4 * 32 + 32 * 3),
    (DOWNSAMPLES, "overlap", (32, 64), {"dims": 3}, 27 * 32 * 64 + 64 * 3),
    # ViT-S/16 at 224, less what the class token has: a patch projection and 196 positions
    (STEMS, "patch", (3, 384), {"patch": 16, "norm": "none", "position": 14}, 768 * 384 + 384 + 196 * 384),
    # ConvNeXt-T, and Swin-T's merging
    (DOWNSAMPLES, "conv2s2", (96, 192), {}, 2 * 96 + 4 * 96 * 192 + 192),
    (DOWNSAMPLES, "conv2s2", (64, 128), {"norm": "after"}, 4 * 64 * 128 + 3 * 128),
    (DOWNSAMPLES, "merge", (96, 192), {}, 4 * 96 * 192 + 2 * 4 * 96),
]


@pytest.mark.parametrize(("registry", "name", "widths", "knobs", "expected"), PUBLISHED)
def test_has_as_many_weights_as_the_published_part(
    registry: Any, name: str, widths: tuple[int, int], knobs: dict[str, Any], expected: int
) -> None:
    part = registry[name](*widths, **{"dims": 2, **knobs})
    assert parameter_count(part) == sum(parameter.numel() for parameter in part.parameters()) == expected


@pytest.mark.parametrize(
    ("registry", "name", "knobs", "remedy"),
    [
        (STEMS, "conv", {"stride": 3}, "got 3; try 4"),
        (STEMS, "conv", {"stride": "2x6"}, "got '2x6'; try '2x8'"),
        (STEMS, "conv", {"stride": True}, "got True; try 1"),
        (STEMS, "conv", {"bias": 1}, "got 1; try true"),
        (STEMS, "conv4", {"stride": 3}, "got 3; try 2"),
        (STEMS, "conv4", {"stride": "1x8"}, "got '1x8'; try '1x4'"),
        (STEMS, "patch", {"position": 0}, "got 0; try 1"),
        (STEMS, "patch", {"patch": "4x4x4"}, "must be 2 whole numbers"),
        (STEMS, "overlap", {"kernel": 6}, "got 6; try 7"),
        (STEMS, "overlap", {"kernel": 3}, "got 3; try 5"),
        (STEMS, "overlap", {"kernel": "7x2"}, "got '7x2'; try '7x5'"),
        (STEMS, "per_channel", {"sample": "yes"}, "got 'yes'; try true"),
        (DOWNSAMPLES, "conv3s2", {"stride": 4}, "got 4; try 2"),
        (DOWNSAMPLES, "conv2s2", {"norm": "batch"}, "try 'before'"),
        (DOWNSAMPLES, "keep_and_fuse", {"keep": 0}, "got 0; try 0.7"),
        (DOWNSAMPLES, "keep_and_fuse", {"keep": True}, "got True; try 0.7"),
    ],
)
def test_a_wrong_knob_is_refused_with_a_remedy(registry: Any, name: str, knobs: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy) as refused:
        registry[name](4, 6, dims=2, **knobs)
    assert name in str(refused.value)
