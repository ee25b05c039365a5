"""Trainings in processes of their own, and what a step takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from medsearch.core.children import ChildDied
from medsearch.train import fresh
from medsearch.train.step_cost import step_memory, step_seconds
from medsearch.train.workers import Remote, default_workers, pool

Make = Callable[..., Any]


def test_a_worker_trains_what_this_process_would_and_a_dead_one_is_replaced(training: Make, genotype: Make) -> None:
    work, architecture = training(epochs=2), genotype("classification", 2)
    here = work(architecture)
    remote = Remote(interface=work.interface, recipe=work.recipe)
    with pool(work.data, workers=1) as executor:
        scores = executor.submit(remote, architecture).result()
        keeping = Remote(interface=work.interface, recipe=work.recipe, keep_model=True)
        kept = executor.submit(keeping, architecture).result()
        assert scores.model is None
        assert (scores.error, scores.metrics, scores.epochs) == (here.error, here.metrics, here.epochs)
        assert kept.error == here.error
        assert not kept.model.training
        assert next(kept.model.parameters()).device.type == "cpu"
        with pytest.raises(ChildDied, match="exit code 1"):
            executor.submit(os._exit, 1).result()
        again = executor.submit(remote, architecture).result()
        assert (again.error, again.metrics) == (here.error, here.metrics)
        with pytest.raises(ChildDied, match="training: .* no answer within 0.01 s"):
            executor.submit(replace(remote, limit_s=0.01), architecture).result()


def test_there_is_a_worker_for_every_processor_of_this_process() -> None:
    assert default_workers() == (1 if torch.cuda.is_available() else len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(("task", "dims"), [("classification", 2), ("denoising", 3)])
def test_a_step_takes_more_than_its_weights_and_leaves_the_model_alone(
    training: Make, genotype: Make, task: str, dims: int
) -> None:
    """Weights, average, gradients and two moments, and the batch on top; twice the batch takes more."""
    work = training(task, dims, batch=8)
    model = fresh(genotype(task, dims), work.interface, work.data, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = 4 * sum(parameter.numel() for parameter in model.parameters())
    taken = step_memory(model, work.data, work.task, work.recipe)
    assert taken > 5 * parameters + 4 * work.data.train.images[:8].size
    assert step_memory(model, work.data, work.task, training(task, dims, batch=16).recipe) > taken
    assert step_seconds(model, work.data, work.task, work.recipe, steps=1) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
