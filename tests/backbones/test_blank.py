"""Modules made without filling them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.backbones.blank import Blank


def test_weights_are_left_as_the_memory_was() -> None:
    """Filled ones would be another draw from the same state."""
    with Blank():
        layer = nn.Conv2d(3, 5, 3)
        before = layer.weight.detach().clone()
        layer.reset_parameters()
        nn.init.constant_(layer.weight, 7.0)
    assert layer.weight.shape == (5, 3, 3, 3)
    assert torch.equal(layer.weight.nan_to_num(), before.nan_to_num())


def test_a_draw_that_goes_on_until_it_fits_ends() -> None:
    """Whatever the memory holds: 100 lies outside what ``trunc_normal_`` takes."""
    far = torch.full((1000,), 100.0)
    with Blank():
        drawn: Tensor = far.clone().normal_()
        assert drawn.abs().max() < 10
        assert far.clone().uniform_().max() <= 1
        nn.init.trunc_normal_(far, std=0.02, a=-0.03, b=0.03)
    assert 0.02 < far.abs().max() <= 0.03
