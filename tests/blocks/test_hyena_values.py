"""Hyena against its equation: filters as sums of sines, convolutions position by position, all in double precision."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medsearch.blocks import MIXERS

Array = np.ndarray


def build(dim: int, dims: int, **knobs: Any) -> Any:
    """In double precision, with large random parameters, so that no term is too small to be seen."""
    part = MIXERS["hyena"](dim, dims=dims, **knobs).double().eval()
    for parameter in part.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    return part


def numbers(module: nn.Module) -> dict[str, Array]:
    return {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}


def filter_values(p: dict[str, Array], axis: int, order: int, channel: int, dim: int, length: int) -> dict[int, float]:
    """h(i) for every offset i, as the module's docstring writes it."""
    decay = math.log(100) * (1 / 1.5 + (1 / 0.3 - 1 / 1.5) * channel / (dim - 1))
    window = {i: math.exp(-decay * abs(i) / length) for i in range(1 - length, length)}
    layers = {key.split(".", 2)[2]: tensor for key, tensor in p.items() if key.startswith(f"filters.{axis}.")}
    bands = (layers["first.weight"].shape[1] - 1) // 2
    values = {}
    for i, share in window.items():
        turns = [math.pi * k * i / length for k in range(1, bands + 1)]
        features = np.array([i / length, *map(math.cos, turns), *map(math.sin, turns)])
        hidden = np.sin(layers["first.weight"] @ features + layers["first.bias"])
        hidden = np.sin(layers["second.weight"] @ hidden + layers["second.bias"])
        values[i] = float(layers["last.weight"][order * dim + channel] @ hidden) * share / sum(window.values())
    return values


def streams(p: dict[str, Array], x_SC: Array) -> Array:
    """(*S, K): a 3-wide depthwise filter, zeros around the map, of a projection of the normed input."""
    centred = x_SC - x_SC.mean(-1, keepdims=True)
    u_SC = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["norm.weight"] + p["norm.bias"]
    u_SK = u_SC @ p["streams.weight"].T + p["streams.bias"]
    y_SK = np.zeros_like(u_SK) + p["near.bias"]
    for place in np.ndindex(*u_SK.shape[:-1]):
        for offset in itertools.product((-1, 0, 1), repeat=len(place)):
            source = tuple(a + b for a, b in zip(place, offset, strict=True))
            if all(0 <= s < length for s, length in zip(source, u_SK.shape, strict=False)):
                y_SK[place] += p["near.weight"][(slice(None), 0, *(o + 1 for o in offset))] * u_SK[source]
    return y_SK


def hyena(part: Any, x_SC: Array) -> Array:
    """z_(n+1) = x_n * (h_n conv z_n + d_n z_n), h_n the product over axes of one filter each."""
    p, (*size, dim), orders = numbers(part), x_SC.shape, part.keep_OC.shape[0]
    z_SC, *gates = np.split(streams(p, x_SC), orders + 1, axis=-1)
    for order, gate_SC in enumerate(gates):
        mixed_SC = np.zeros_like(z_SC)
        for channel in range(dim):
            h = [filter_values(p, axis, order, channel, dim, length) for axis, length in enumerate(size)]
            for to, source in itertools.product(np.ndindex(*size), repeat=2):
                weight = math.prod(h[axis][a - b] for axis, (a, b) in enumerate(zip(to, source, strict=True)))
                mixed_SC[(*to, channel)] += weight * z_SC[(*source, channel)]
        z_SC = gate_SC * (mixed_SC + p["keep_OC"][order] * z_SC)
    return z_SC @ p["project.weight"].T + p["project.bias"]


@pytest.mark.parametrize(
    ("size", "knobs"),
    [
        ((4, 5), {}),
        ((5, 4), {"order": 1, "bands": 1}),
        ((1, 6), {"order": 3}),
        ((3, 4, 2), {}),
        ((2, 1, 3), {"order": 1}),
        ((1, 1), {}),
    ],
    ids=str,
)
def test_equals_the_equation_position_by_position(size: tuple[int, ...], knobs: dict[str, int]) -> None:
    part = build(3, len(size), width=5, **knobs)
    x_BCS = torch.randn(2, 3, *size, dtype=torch.float64)
    y_BSC = part(x_BCS).movedim(1, -1).detach().numpy()
    for image, y_SC in zip(x_BCS.movedim(1, -1).numpy(), y_BSC, strict=True):
        np.testing.assert_allclose(y_SC, hyena(part, image), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(17, 12), (6, 5, 9)], ids=str)
@torch.no_grad()
def test_equals_a_product_of_spectra_on_a_map_of_twice_the_size(size: tuple[int, ...]) -> None:
    """Where the map is padded until nothing wraps around, the Fourier transform computes the same."""
    part = build(4, len(size), order=1)
    x_BCS = torch.randn(2, 4, *size, dtype=torch.float64)
    axes, twice = tuple(range(1, len(size) + 1)), [2 * length for length in size]
    for image, y_CS in zip(x_BCS.movedim(1, -1).numpy(), part(x_BCS).numpy(), strict=True):
        z_SC, gate_SC = np.split(streams(numbers(part), image), 2, axis=-1)
        response_CS = np.ones((4, *[1] * len(size)))
        for axis, length in enumerate(size):
            h_CI = np.zeros((4, 2 * length))
            for channel in range(4):
                for i, value in filter_values(numbers(part), axis, 0, channel, 4, length).items():
                    h_CI[channel, i] = value
            shape = [4, *(2 * length if other == axis else 1 for other in range(len(size)))]
            response_CS = response_CS * np.fft.fft(h_CI).reshape(shape)
        spectrum_CS = np.fft.fftn(np.moveaxis(z_SC, -1, 0), twice, axes) * response_CS
        mixed_CS = np.fft.ifftn(spectrum_CS, axes=axes).real[(slice(None), *map(slice, size))]
        z_SC = gate_SC * (np.moveaxis(mixed_CS, 0, -1) + part.keep_OC[0].numpy() * z_SC)
        expected_SC = z_SC @ part.project.weight.numpy().T + part.project.bias.numpy()
        np.testing.assert_allclose(np.moveaxis(y_CS, 0, -1), expected_SC, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_filter_of_a_map_twice_as_long_is_the_same_curve_read_twice_as_finely() -> None:
    axis = build(3, 2).filters[0]
    short_OCP, long_OCP = axis(64), axis(128)
    at_same_place = long_OCP[..., 1::2]  # offsets 2 - 128, 4 - 128, ... of 128 are 1 - 64, 2 - 64, ... of 64
    torch.testing.assert_close(2 * at_same_place[..., :127], short_OCP[..., :127], rtol=0.1, atol=0.0)


@torch.no_grad()
def test_a_constant_is_weighed_alike_at_any_size() -> None:
    """Far from the borders, whose zeros count."""
    part = build(3, 2, order=1)
    small, large = (part(torch.ones(1, 3, edge, edge, dtype=torch.float64)) for edge in (65, 129))
    torch.testing.assert_close(large[..., 64, 64], small[..., 32, 32], rtol=0.05, atol=0.0)


@torch.no_grad()
def test_a_fresh_long_filter_is_neither_silent_nor_loud() -> None:
    """Its sum over the offsets of an axis, by which a constant is multiplied."""
    for length in (14, 128):
        sums_OC = MIXERS["hyena"](64, dims=2).filters[0](length)[..., :-1].sum(2)
        assert 0.2 < sums_OC.square().mean().sqrt() < 2


def test_mixed_precision_keeps_the_filters_in_single_precision() -> None:
    part = MIXERS["hyena"](4, dims=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = part.filters[0](9)
    assert torch.equal(seen, part.filters[0](9))
