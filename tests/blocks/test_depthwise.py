"""Large depthwise filters learn by pieces of 3 x 3: the same gradients as those of the plain convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks.depthwise import depthwise_by_pieces
from medsearch.blocks.nd import depthwise

WINDOWS = [((5, 5), (2, 2)), ((7, 7), (3, 3)), ((4, 5), (0, 1)), ((3, 6), (1, 4)), ((9, 3), (4, 1))]


def gradients(y: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum(), (x, weight)
    )


@pytest.mark.parametrize(("window", "padding"), WINDOWS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_the_plain_convolution(
    window: tuple[int, int], padding: tuple[int, int], layout: torch.memory_format
) -> None:
    x = torch.randn(2, 6, 11, 10, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight = torch.randn(6, 1, *window, dtype=torch.float64, requires_grad=True)
    plain = F.conv2d(x, weight, padding=padding, groups=6)
    ours = depthwise_by_pieces(x, weight, padding)
    assert torch.equal(ours, plain)
    for found, wanted in zip(gradients(ours, x, weight), gradients(plain, x, weight), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-12)


def test_only_what_is_wanted_is_computed() -> None:
    x, weight = torch.randn(1, 4, 6, 6), torch.randn(4, 1, 5, 5, requires_grad=True)
    depthwise_by_pieces(x, weight, (2, 2)).sum().backward()
    assert weight.grad is not None and x.grad is None
    y = depthwise_by_pieces(x.requires_grad_(), weight.detach(), (2, 2))
    y.sum().backward()
    assert x.grad is not None


def test_filters_of_several_channels_learn_as_before() -> None:
    filters = nn.Conv2d(8, 4, 7, padding=3, groups=4)
    depthwise(filters, torch.randn(2, 8, 9, 9)).sum().backward()
    assert filters.weight.grad is not None and filters.weight.grad.shape == (4, 2, 7, 7)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_filter_of_a_network_learns_the_same_as_before(bias: bool, half: bool) -> None:
    filters = nn.Conv2d(8, 8, 7, padding=3, groups=8, bias=bias)
    x = torch.randn(4, 8, 12, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = depthwise(filters, x)
    assert y.dtype == (torch.bfloat16 if half else torch.float32)
    wanted = torch.autograd.grad(filters(x).square().mean(), (x, *filters.parameters()))
    found = torch.autograd.grad(y.float().square().mean(), (x, *filters.parameters()))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        assert torch.allclose(ours, theirs, atol=theirs.abs().max().item() * (0.02 if half else 1e-5))
