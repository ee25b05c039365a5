"""Parts look as far as their oracles say, and no side of a map is special unless those say so."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from medsearch.blocks.nd import CONV
from oracles import mirror_image, receptive_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Part

CONVOLUTIONS = (*CONV.values(), nn.ConvTranspose2d, nn.ConvTranspose3d)
LONG, LENGTHS = 24, range(7, 18)


def stretched(dims: int, axis: int, length: int, others: int = 3) -> tuple[int, ...]:
    """A map that is long along one axis."""
    return tuple(length if other == axis else others for other in range(dims))


def distances(part: Part, module: nn.Module, size: tuple[int, ...], axis: int) -> Tensor:
    """Per position of ``axis``: how far along it outputs change when the input changes there; -1 where none do."""
    length = size[axis]
    (x,) = (x.double() for x in part.arguments(size, batch=1))
    at = [slice(None), *(slice(None) if other == axis else edge // 2 for other, edge in enumerate(size))]
    changed = x.repeat(length + 1, *(1,) * (x.ndim - 1))
    for place in range(length):
        at[1 + axis] = place
        changed[place][tuple(at)] += 3 * torch.randn(x.shape[1], dtype=x.dtype)
    y = module(changed)
    difference = (y[:-1] - y[-1:]).abs().movedim(2 + axis, 1).flatten(2).amax(2)
    place = torch.arange(length)
    apart = (place - place.unsqueeze(1)).abs()
    return torch.where(difference > 1e-6 * y.abs().max(), apart, -1).amax(1)


@torch.no_grad()
def test_looks_as_far_as_its_oracle_says_and_no_further(any_branch: Part, dims: int) -> None:
    """And what says to look at the whole map reaches half of a long one at least, in one of five random states."""
    for part in any_branch.config(dims) if dims == 2 else [any_branch]:
        field = receptive_field(part.build(dims))
        farthest = 0
        for _ in range(5):
            module = part.trained(dims).double()
            for axis in range(dims):
                length = LONG if field is None else 2 * (field.radius + field.step) + 1
                seen = int(distances(part, module, stretched(dims, axis, length), axis).max())
                assert field is None or seen <= field.radius, f"{part.knobs}: {seen} along axis {axis}"
                farthest = max(farthest, seen)
            if farthest == (field or (LONG // 2,))[0] or (field is None and farthest >= LONG // 2):
                break
        else:
            raise AssertionError(f"{part.knobs}: sees {farthest} positions far, not {field}")


@torch.no_grad()
def test_a_moved_input_moves_the_output(any_branch: Part, dims: int, close: Callable[..., bool]) -> None:
    """By as many positions as the oracle says, away from the borders."""
    for part in any_branch.config(dims) if dims == 2 else [any_branch]:
        module = part.trained(dims).double()
        field = receptive_field(module)
        if field is None:
            continue
        far, step = field
        for axis in range(dims):
            length = 2 * (far + step) + 1
            (x,) = (x.double() for x in part.arguments(stretched(dims, axis, length + step), batch=1))
            first, moved = (module(x.narrow(2 + axis, start, length)) for start in (0, step))
            kept = length - step - 2 * far
            seen, expected = moved.narrow(2 + axis, far, kept), first.narrow(2 + axis, far + step, kept)
            assert close(seen, expected, 1e-6), f"{part.knobs}: axis {axis}"


def mirrored(module: nn.Module, dims: int, axis: int) -> nn.Module | None:
    """The part as a mirror along ``axis`` shows it: convolutions flipped, and what has an oracle as that says.

    None where no weights of it compute the mirrored map.
    """
    state = {}
    for name, inner in reversed(list(module.named_modules())):
        seen = mirror_image(inner, axis)
        if seen is None:
            return None
        if isinstance(inner, CONVOLUTIONS) and inner.weight.ndim == dims + 2:
            seen = {"weight": inner.weight.flip(2 + axis)}
        state |= {f"{name}.{key}" if name else key: tensor for key, tensor in seen.items()}
    image = copy.deepcopy(module)
    assert not image.load_state_dict(state, strict=False).unexpected_keys
    return image


@torch.no_grad()
def test_a_mirrored_part_gives_the_mirrored_output(any_part: Part, dims: int, close: Callable[..., bool]) -> None:
    """At one length at least of several: where windows or strides do not fit, the ends of a map are not alike."""
    for part in any_part.config(dims) if dims == 2 else [any_part]:
        module = part.trained(dims).double()
        for axis in range(dims):
            image = mirrored(module, dims, axis)
            if image is not None:
                fits = (
                    mirrors(part, module, image, stretched(dims, axis, length, 5), axis, close) for length in LENGTHS
                )
                assert any(fits), f"{part.knobs}: axis {axis}"


def mirrors(
    part: Part, module: nn.Module, image: nn.Module, size: tuple[int, ...], axis: int, close: Callable[..., bool]
) -> bool:
    args = tree_map(Tensor.double, part.arguments(size, batch=1))
    expected = module(*args)
    if part.kind == "head" and "classification" in part.target.TASKS:
        return close(image(*tree_map(lambda x: x.flip(2 + axis), args)), expected)
    return close(image(*tree_map(lambda x: x.flip(2 + axis), args)), expected.flip(2 + axis))
