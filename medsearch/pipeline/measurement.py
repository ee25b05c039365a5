"""What one network really takes on this machine: every cost that a budget can limit, measured."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import fields

import numpy as np
import torch
from torch import nn

from medsearch.data import Dataset
from medsearch.measurement.budget import Costs
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.timing import Latency
from medsearch.measurement.macs import count
from medsearch.measurement.memory.peak import measured_peak
from medsearch.measurement.memory.workspace import allocated_peak
from medsearch.tasks import Task
from medsearch.train import TrainingRecipe
from medsearch.train.step_cost import step_memory

DRAWS = 5
"""Random changes of a batch that are measured, because not all take alike."""

NAMES = tuple(field.name for field in fields(Costs))


def measure(
    model: nn.Module,
    data: Dataset,
    task: Task,
    recipe: TrainingRecipe,
    *,
    artifact: bytes = b"",
    names: Collection[str] = NAMES,
) -> dict[str, Estimate]:
    """The costs called ``names``, by name, but the latency, which is timed elsewhere; the model is left as it was.

    Args:
        model: the network, on any device.
        data: whose first images a training step is made with, and whose size counts.
        task, recipe: of the training.
        artifact: the file that is deployed, for its size.
        names: of the costs.
    """
    here = copy.deepcopy(model).to("cuda" if torch.cuda.is_available() else "cpu")
    ways: dict[str, Callable[[], Estimate]] = {
        "parameters": lambda: _exact(sum(weight.numel() for weight in model.parameters()), "parameters"),
        "macs": lambda: _exact(count(lambda: here.eval()(_image(here, data))), "MAC"),
        "memory": lambda: _exact(step_memory(here, data, task, recipe), "bytes"),
        "inference": lambda: _exact(inference_memory(here, data), "bytes"),
        "file": lambda: _exact(len(artifact), "bytes"),
    }
    return {name: way() for name, way in ways.items() if name in names}


def inference_memory(model: nn.Module, data: Dataset) -> int:
    """Peak bytes of a forward pass of one image without gradients, weights and image included."""
    model.eval()
    image = _image(model, data)

    def forward() -> None:
        with torch.no_grad():
            model(image)

    forward()
    return measured_peak(forward, [*model.state_dict().values(), image], image.device)


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


def _image(model: nn.Module, data: Dataset) -> torch.Tensor:
    return torch.zeros(1, data.channels, *data.size, device=next(model.parameters()).device)


def latency_estimate(timed: Latency) -> Estimate:
    """A timing as a cost: the median is what counts, and the upper end therefore."""
    return Estimate(value=timed.median_ms, low=timed.quartile_low_ms, high=timed.median_ms, unit="ms", how="measured")


def _exact(value: float, unit: str) -> Estimate:
    return Estimate.exact(value, unit, "measured")
