"""What every part of a network promises (see ``medsearch.blocks``), asked of each one that the registries know."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from medsearch.measurement.macs import count
from medsearch.tasks import TASKS
from medsearch.testing.blocks import (
    SIZES,
    UNEVEN,
    check_company,
    check_every_parameter,
    check_gradients,
    check_shape,
    check_state,
    gradients,
    shape_after,
)
from oracles import parameter_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Part

EVEN = {2: (16, 16), 3: (8, 8, 8)}
LARGE = [(256, 256), (128, 128), (64, 64), (32, 32)]

every_size = pytest.mark.parametrize("size", SIZES[2] + SIZES[3], ids=str)


def test_says_what_it_is_and_where_it_comes_from(any_part: Part) -> None:
    part = any_part.target
    assert part.__doc__ and "Args:" in part.__doc__
    source = inspect.getdoc(inspect.getmodule(part)) or ""
    assert "Source:" in source
    assert "arXiv:" in source or "doi" in source
    for knob in any_part.defaults:
        assert f"{knob}: " in part.__doc__, f"'{knob}' is not described"


def test_a_mixer_names_its_family_and_norm(any_mixer: Part) -> None:
    assert any_mixer.target.FAMILY
    assert any_mixer.target.NORM in ("batch", "layer", "none")


def test_a_head_names_its_tasks(any_head: Part) -> None:
    assert any_head.target.TASKS
    assert set(any_head.target.TASKS) <= set(TASKS)


@every_size
def test_shape_is_as_promised_for_any_size(any_part: Part, size: tuple[int, ...]) -> None:
    check_shape(any_part, size)


@every_size
def test_trains_on_any_size(any_part: Part, size: tuple[int, ...]) -> None:
    check_gradients(any_part, size)


def test_every_parameter_matters(any_part: Part, dims: int) -> None:
    check_every_parameter(any_part, dims)


def test_the_state_dict_is_all_that_was_learnt(any_part: Part, dims: int) -> None:
    check_state(any_part, dims)


@pytest.mark.parametrize("value", [0.0, 1.0, -1000.0])
def test_constant_input_gives_finite_output_and_gradient(any_part: Part, dims: int, value: float) -> None:
    module = any_part.build(dims).train()
    args = tree_map(lambda x: torch.full_like(x, value, requires_grad=True), any_part.arguments(UNEVEN[dims]))
    y = module(*args)
    y.sum().backward()
    assert all(tensor.isfinite().all() for tensor in (y, *gradients(module, args)))


def alike(x_BCS: Tensor, period: int) -> Tensor:
    """The first ``period`` positions of every axis over and over, so that many positions are equal."""
    for axis in range(2, x_BCS.ndim):
        x_BCS = x_BCS.index_select(axis, torch.arange(x_BCS.shape[axis]) % min(period, x_BCS.shape[axis]))
    return x_BCS


def checkered(x_BCS: Tensor) -> Tensor:
    """Two values per channel, taking turns."""
    squares = sum(torch.meshgrid(*map(torch.arange, x_BCS.shape[2:]), indexing="ij")) % 2
    first, second = (x_BCS.flatten(2)[..., i].reshape(*x_BCS.shape[:2], *(1,) * squares.ndim) for i in (0, -1))
    return torch.where(squares == 0, first, second)


PATTERNS = {
    "random": lambda x: x,
    "constant": lambda x: alike(x, 1),
    "repeated": lambda x: alike(x, 3),
    "checkered": checkered,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_company_layout_and_repetition_change_nothing(any_part: Part, dims: int, pattern: str) -> None:
    """Also where positions are equal, so that which one is best is a tie."""
    check_company(any_part, tree_map(PATTERNS[pattern], any_part.arguments(UNEVEN[dims], batch=3)))


@torch.no_grad()
def test_double_precision_gives_the_same_values(any_part: Part, dims: int, close: Callable[..., bool]) -> None:
    module = any_part.trained(dims)
    args = any_part.arguments(UNEVEN[dims])
    expected = module(*args)
    seen = module.double()(*tree_map(Tensor.double, args))
    assert seen.dtype == torch.float64
    assert close(seen.float(), expected, 1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 3e-3), (torch.bfloat16, 3e-2)], ids=str)
@torch.no_grad()
def test_half_precision_is_close_to_double(any_part: Part, dims: int, dtype: torch.dtype, tolerance: float) -> None:
    """In 2D over as many positions as some multiply-adds allow, at most 65,536: there sums overflow and lose digits.

    At nine positions of ten: where a part picks the best of its positions, rounding may pick another one.
    """
    part = any_part.narrow()
    module = part.trained(dims)
    size = next(size for size in LARGE if part.macs(module, size) <= 3e8) if dims == 2 else UNEVEN[dims]
    args = tree_map(lambda x: x + 1, part.arguments(size, batch=1))
    with torch.autocast("cpu", dtype=dtype):
        seen = module(*args)
    expected = module.double()(*tree_map(Tensor.double, args))
    assert seen.isfinite().all()
    length = expected.norm(dim=1)
    error = (seen - expected).norm(dim=1) / torch.maximum(length, length.median()).clamp_min(1e-9)
    assert error.quantile(0.9) <= tolerance
    assert error.max() <= 0.5


def test_shapes_are_known_without_computing(any_part: Part, dims: int) -> None:
    with torch.device("meta"):
        y = any_part.build(dims).eval()(*any_part.arguments(UNEVEN[dims]))
    assert y.is_meta
    assert y.shape == any_part.build(dims).eval()(*any_part.arguments(UNEVEN[dims])).shape


def counted(part: Part, module: nn.Module, size: tuple[int, ...]) -> tuple[int, torch.Size]:
    """Multiply-adds, and the shape of the output."""
    shapes = []
    args = part.arguments(size, batch=1)
    return count(lambda: shapes.append(module(*args).shape)), shapes[0]


def test_costs_what_it_says(any_part: Part, dims: int) -> None:
    with torch.device("meta"):
        module = any_part.build(dims).eval()
        for size in (UNEVEN[dims], EVEN[dims], (1,) * dims):
            assert any_part.macs(module, size) == counted(any_part, module, size)[0], f"at {size}"


def test_cost_and_shape_are_as_said_with_every_knob_elsewhere(any_part: Part, dims: int) -> None:
    size = UNEVEN[dims]
    with torch.device("meta"):
        for part in any_part.config(dims):
            module = part.build(dims).eval()
            assert parameter_count(module) == sum(p.numel() for p in module.parameters()), part.knobs
            seen = counted(part, module, size)
            assert seen == (part.macs(module, size), shape_after(part, module, size, batch=1)), part.knobs


def test_a_wrong_knob_is_refused_by_name(any_knob: tuple[Part, str]) -> None:
    part, knob = any_knob
    annotation = str(inspect.signature(part.target).parameters[knob].annotation)
    wrong: list[object] = ["nonsense"]
    wrong += [-1] if "int" in annotation or "float" in annotation else []
    wrong += [2.5] if "int" in annotation and "float" not in annotation else []
    for value in wrong:
        with pytest.raises((ValueError, TypeError)) as refused:
            part.having(**{knob: value}).build(2)
        assert part.name in str(refused.value), f"{knob}={value!r}: the message does not name the part: {refused.value}"
        assert repr(value) in str(refused.value), f"{knob}={value!r}: the message does not say what was seen"


def test_an_unknown_knob_is_refused(any_part: Part) -> None:
    with pytest.raises(TypeError, match="no_such_knob"):
        any_part.having(no_such_knob=1).build(2)
