"""Batch statistics taken anew: those of the training images, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsearch.train.normalisation import recalibrate

Make = Callable[..., Any]


class Scaled(nn.Module):
    """Raw images doubled, then normalised."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))
        self.norm = nn.BatchNorm2d(1, **given)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.dropout(images * self.factor))
        return normed


def test_statistics_are_those_of_the_images(training: Make) -> None:
    """All 36 images as one batch: their mean, and their variance by n - 1; dropout before the norm is off."""
    data, model = training().data, Scaled()
    recalibrate(model, data, batch=36)
    seen = 2 * data.train.images.astype(np.float64)
    assert model.norm.running_mean is not None and model.norm.running_var is not None
    assert float(model.norm.running_mean) == pytest.approx(seen.mean(), rel=1e-5)
    assert float(model.norm.running_var) == pytest.approx(seen.var(ddof=1), rel=1e-4)


def test_what_was_known_before_is_forgotten(training: Make) -> None:
    data, one, other = training().data, Scaled(), Scaled()
    nn.init.constant_(other.norm.running_mean, 1e6)
    for model in (one, other):
        recalibrate(model, data, batch=12)
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_batches_count_alike_and_are_no_more_than_asked_for(training: Make) -> None:
    """Six of 36 images, evenly: 0, 7, 14, 21, 28, 35, in two batches of three."""
    data, sizes = training().data, []
    model = Scaled()
    model.norm.register_forward_hook(lambda norm, given, out: sizes.append(len(given[0])))
    recalibrate(model, data, batch=3, batches=2)
    assert sizes == [3, 3]
    assert int(model.norm.num_batches_tracked) == 2
    wanted = 2 * data.train.images[::7].astype(np.float64).mean()
    assert float(model.norm.running_mean) == pytest.approx(wanted, rel=1e-5)


def test_a_last_image_is_not_alone(training: Make) -> None:
    """36 images by 35 are one batch, not one of 35 and one of 1."""
    sizes: list[int] = []
    model = Scaled()
    model.norm.register_forward_hook(lambda norm, given, out: sizes.append(len(given[0])))
    recalibrate(model, training().data, batch=35)
    assert sizes == [36]


@pytest.mark.parametrize("mode", [True, False])
def test_weights_mode_momentum_and_random_state_are_kept(training: Make, mode: bool) -> None:
    model = Scaled(momentum=0.3).train(mode)
    weights = [parameter.clone() for parameter in model.parameters()]
    state = torch.random.get_rng_state()
    recalibrate(model, training().data, batch=12)
    assert {module.training for module in model.modules()} == {mode}
    assert model.norm.momentum == 0.3
    assert all(map(torch.equal, model.parameters(), weights))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 1), nn.BatchNorm2d(1, track_running_stats=False)])
def test_a_model_without_running_statistics_is_not_run(training: Make, norm: nn.Module) -> None:
    class Sealed(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("there is nothing to take statistics of")

    recalibrate(Sealed(norm), training().data, batch=12)
