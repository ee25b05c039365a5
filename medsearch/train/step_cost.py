"""What one training step really takes on this machine: seconds by precision, and bytes at the peak."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.data import Dataset
from medsearch.measurement.memory.peak import measured_peak, traced_peak
from medsearch.measurement.memory.trace import fake
from medsearch.measurement.memory.workspace import Workspaces
from medsearch.tasks import Task
from medsearch.train.loop import Stepper, TrainingRecipe


def _batch(data: Dataset, recipe: TrainingRecipe) -> tuple[np.ndarray, np.ndarray]:
    """The first images of the training split, repeated if there are fewer than a batch."""
    rows = np.arange(recipe.batch) % len(data.train)
    return data.train.images[rows], data.train.targets[rows]


def step_seconds(model: nn.Module, data: Dataset, task: Task, recipe: TrainingRecipe, *, steps: int = 3) -> float:
    """Seconds of one training step, the fastest of ``steps`` after one to warm up; the model is left as it was."""
    stepper = Stepper(copy.deepcopy(model), data.dims, task, recipe)
    images, targets = _batch(data, recipe)
    rng = torch.Generator().manual_seed(0)
    spent = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        stepper(images, targets, recipe.lr, rng)
        spent.append(time.perf_counter() - start)
    return min(spent[1:])


def step_memory(model: nn.Module, data: Dataset, task: Task, recipe: TrainingRecipe) -> int:
    """Peak bytes of one training step as :func:`train` runs it, by the allocator; the model is left as it was."""
    stepper = Stepper(copy.deepcopy(model), data.dims, task, recipe)
    images, targets = _batch(data, recipe)
    rng = torch.Generator().manual_seed(0)
    return _after_one(stepper, lambda: stepper(images, targets, recipe.lr, rng), [])


def learning_memory(model: nn.Module, images: Tensor, targets: Tensor, task: Task, recipe: TrainingRecipe) -> int:
    """Peak bytes of learning from a batch (B, C, *S) that is there already, by the allocator; trains the model."""
    stepper = Stepper(model, images.ndim - 2, task, recipe)
    return _after_one(stepper, lambda: stepper.learn(images, targets), [images, targets])


def traced_memory(
    make: Callable[[], nn.Module],
    images: Tensor,
    targets: Tensor,
    task: Task,
    recipe: TrainingRecipe,
    *,
    workspaces: Workspaces | None = None,
    device: str = "cpu",
    round_to: int = 1,
) -> int:
    """The same on tensors without contents: nothing is computed, and no large memory taken.

    Args:
        make: builds the model.
        images, targets: a batch, of which only shapes and types are read: meta tensors will do.
        task, recipe: of the training.
        workspaces: what operators take inside; None leaves it out.
        device: whose operators are run.
        round_to: bytes to whose multiples its allocator rounds.
    """
    with fake(make, device) as model, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # by copies of modules
        stepper = Stepper(model, images.ndim - 2, task, recipe)
        batch = [torch.empty_like(tensor, device=device) for tensor in (images, targets)]
        return traced_peak(
            lambda: stepper.learn(*batch),
            lambda: [*stepper.resident(), *batch],
            workspaces=workspaces,
            round_to=round_to,
        )


def _after_one(stepper: Stepper, step: Callable[[], object], batch: list[Tensor]) -> int:
    """The peak of the second step: the first one makes the optimizer's moments."""
    step()
    stepper.optimizer.zero_grad(set_to_none=True)
    return measured_peak(step, [*stepper.resident(), *batch], stepper.device)
