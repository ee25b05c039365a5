"""What one network really takes on this machine: every cost that a budget can limit, measured."""

from __future__ import annotations

import copy
from collections.abc import Collection

import numpy as np
import torch
from torch import nn

from medsearch.data import Dataset
from medsearch.measurement.costs import COSTS, Measurement, cost_named
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.timing import Latency
from medsearch.measurement.memory.workspace import allocated_peak
from medsearch.tasks import Task
from medsearch.train import TrainingRecipe
from medsearch.train.step_cost import step_memory

DRAWS = 5
"""Random changes of a batch that are measured, because not all take alike."""


def measure(
    model: nn.Module,
    data: Dataset,
    task: Task,
    recipe: TrainingRecipe,
    *,
    artifact: bytes = b"",
    timing: Latency | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Estimate]:
    """Those of the costs called ``names`` that can be measured here, by name; the model is left as it was.

    Args:
        model: the network, on any device.
        data: whose first images a training step is made with, and whose size counts.
        task, recipe: of the training.
        artifact: the file that is deployed.
        timing: of that file.
        names: of the costs; None for all.
    """
    here = copy.deepcopy(model).to("cuda" if torch.cuda.is_available() else "cpu")
    asked = Measurement(
        network=here,
        data=data,
        task=task,
        recipe=recipe,
        artifact=artifact,
        timing=timing,
        step_bytes=lambda: step_memory(here, data, task, recipe),
    )
    found = {}
    for name in COSTS if names is None else names:
        here.eval()
        if (measured := cost_named(name, where="measurement").measure(asked)) is not None:
            found[name] = measured
    return found


def changing_memory(data: Dataset, recipe: TrainingRecipe) -> int:
    """Peak bytes of the random changes of a batch; 0 where a GPU trains, because they are made beside it."""
    if torch.cuda.is_available():
        return 0
    rows = np.arange(recipe.batch) % len(data.train)
    images, targets = data.train.images[rows], data.train.targets[rows]
    rng = torch.Generator().manual_seed(0)

    def change() -> None:
        recipe.augment(torch.from_numpy(images).float(), data.target.tensor(targets), rng)

    return max(allocated_peak(change, torch.device("cpu")) for _ in range(DRAWS))
