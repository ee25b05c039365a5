"""Fake results are laid out as real ones, and what follows from it for the parts of a network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from medsearch.measurement.memory.norms import as_real
from medsearch.measurement.memory.trace import footprint

aten = torch.ops.aten
LAST = torch.channels_last


def described(result: object) -> list[tuple[object, ...]]:
    return [(x.shape, x.stride(), x.dtype) for x in result if isinstance(x, Tensor)]  # type: ignore[attr-defined]


def batch_norm(dtype: torch.dtype):
    x = torch.ones(2, 8, 4, 4, dtype=dtype).contiguous(memory_format=LAST)
    return aten.native_batch_norm.default, (x, *(torch.ones(8) for _ in range(4)), True, 0.1, 1e-5)


def layer_norm(dtype: torch.dtype):
    return aten.native_layer_norm.default, (torch.ones(2, 4, 8, dtype=dtype), [8], torch.ones(8), torch.ones(8), 1e-5)


def group_norm(dtype: torch.dtype):
    x = torch.ones(2, 8, 4, 4, dtype=dtype)
    return aten.native_group_norm.default, (x, torch.ones(8), torch.ones(8), 2, 8, 16, 2, 1e-5)


def batch_norm_backward(dtype: torch.dtype):
    func, (x, *others) = batch_norm(dtype)
    gradient, statistics = torch.ones(2, 8, 4, 4, dtype=dtype), func(x, *others)[1:]
    weight, _, mean, deviation, *_ = others
    return aten.native_batch_norm_backward.default, (
        gradient, x, weight, mean, deviation, *statistics, True, 1e-5, [True, True, True],
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operator", [batch_norm, layer_norm, group_norm, batch_norm_backward])
def test_a_norm_without_contents_has_the_strides_and_types_of_a_real_one(operator, dtype: torch.dtype) -> None:
    func, args = operator(dtype)
    real = described(func(*args))
    with FakeTensorMode() as mode:
        args = tuple(mode.from_tensor(arg) if isinstance(arg, Tensor) else arg for arg in args)
        assert described(as_real(func, args, func(*args))) == real


def test_a_gradient_that_is_not_asked_for_stays_away() -> None:
    func, args = batch_norm_backward(torch.float32)
    with FakeTensorMode() as mode:
        args = tuple(mode.from_tensor(arg) if isinstance(arg, Tensor) else arg for arg in args[:-1])
        args += ([False, True, True],)
        assert as_real(func, args, func(*args))[0] is None


def test_what_is_made_of_an_image_of_one_channel_is_in_channels_last_layout_as_in_training() -> None:
    conv = nn.Conv2d(1, 8, 3)
    assert conv(torch.ones(2, 1, 6, 7).to(memory_format=LAST)).is_contiguous(memory_format=LAST)
    found = footprint(lambda: nn.Conv2d(1, 8, 3), [(2, 1, 6, 7)], precision="fp32", trained=[False])
    assert found.order == (0, 2, 3, 1)
    same = footprint(nn.Identity, [(2, 1, 6, 7)], precision="fp32")
    assert same.order == (0, 2, 3, 1)  # and so is that of a part that lets it through


def test_a_gradient_that_comes_in_another_layout_is_copied_where_it_has_to_be() -> None:
    class ResidualModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mlp = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))

        def forward(self, x_BCS: Tensor) -> Tensor:
            return x_BCS + self.mlp(x_BCS.movedim(1, -1)).movedim(-1, 1)

    image = 2 * 8 * 5 * 6 * 4
    fitting = footprint(ResidualModel, [(2, 8, 5, 6)], precision="fp32")
    turned = footprint(ResidualModel, [(2, 8, 5, 6)], precision="fp32", gradient=(0, 1, 2, 3))
    # Linear maps want the channels last: they are given a copy, while the gradient itself waits for the sum.
    assert turned.backward == fitting.backward + image
    assert (fitting.gradient_orders, turned.gradient_orders) == (((0, 2, 3, 1),), ((0, 1, 2, 3),))
