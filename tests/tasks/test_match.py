"""The distance of distillation: zero for equals, the written-out formula otherwise, whatever the task."""

from __future__ import annotations

import math

import pytest
import torch

from medsearch.tasks import TASKS, make_task

OUTPUTS = {"classification": (4, 3), "segmentation": (4, 3, 6, 5), "denoising": (4, 3, 6, 5)}


@pytest.mark.parametrize("name", TASKS)
def test_is_zero_for_the_same_output_and_pulls_towards_it(name: str) -> None:
    task = make_task(name, outputs=3, dims=2)
    wanted = torch.randn(OUTPUTS[name])
    assert float(task.match(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    output = torch.randn(OUTPUTS[name], requires_grad=True)
    before = task.match(output, wanted)
    (slope,) = torch.autograd.grad(before, output)
    assert float(task.match(output - 0.1 * slope, wanted).detach()) < float(before.detach())


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_is_the_divergence_at_temperature_two(name: str) -> None:
    """Two classes, logits 2 ln 3 and 0 against 0, 0: 4 KL((3/4, 1/4) || (1/2, 1/2)) = 4 (3/4 ln 3/2 + 1/4 ln 1/2)."""
    task = make_task(name, outputs=2, dims=2)
    shape = OUTPUTS[name][2:]
    wanted = torch.tensor([2 * math.log(3), 0.0]).reshape(1, 2, *(1,) * len(shape)).expand(4, 2, *shape)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert float(task.match(torch.zeros_like(wanted), wanted)) == pytest.approx(expected, rel=1e-5)


def test_denoising_matches_the_mean_absolute_difference_in_deviations() -> None:
    task = make_task("denoising", outputs=3, dims=2)
    wanted = torch.randn(OUTPUTS["denoising"])
    assert float(task.match(wanted + 0.5, wanted)) == pytest.approx(0.5 / float(wanted.std()), rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_point_is_a_hundredth_or_a_tenth_of_a_decibel(name: str) -> None:
    task = make_task(name, outputs=3, dims=2)
    assert task.deciding.point == (0.1 if task.primary == "psnr" else 0.01)
