"""What one training step really takes on this machine: seconds by precision, and bytes at the peak."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from medsearch.data import Dataset
from medsearch.export.onnx import to_onnx_fast
from medsearch.measure.calibrate import Measured
from medsearch.measure.latency import latency
from medsearch.measure.memory import measured_peak
from medsearch.train.loop import Recipe, Stepper
from medsearch.train.task import Task


def _batch(data: Dataset, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """The first images of the training split, repeated if there are fewer than a batch."""
    rows = np.arange(recipe.batch) % len(data.train)
    return data.train.images[rows], data.train.targets[rows]


def step_seconds(model: nn.Module, data: Dataset, task: Task, recipe: Recipe, *, steps: int = 3) -> float:
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


def faster_precision(model: nn.Module, data: Dataset, task: Task, recipe: Recipe) -> str:
    """``"bf16"`` where a training step of ``model`` is faster with it here, else ``"fp32"``."""
    seconds = {
        precision: step_seconds(model, data, task, replace(recipe, precision=precision), steps=2)
        for precision in ("fp32", "bf16")
    }
    return min(seconds, key=lambda precision: seconds[precision])


def step_memory(model: nn.Module, data: Dataset, task: Task, recipe: Recipe) -> int:
    """Peak bytes of one training step as :func:`train` runs it, by the allocator; the model is left as it was."""
    stepper = Stepper(copy.deepcopy(model), data.dims, task, recipe)
    images, targets = _batch(data, recipe)
    rng = torch.Generator().manual_seed(0)
    stepper(images, targets, recipe.lr, rng)
    stepper.optimizer.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    return measured_peak(lambda: stepper(images, targets, recipe.lr, rng), stepper.resident(), device)


def measured(model: nn.Module, data: Dataset, task: Task, recipe: Recipe) -> Measured:
    """What a whole network takes: peak bytes of a training step; milliseconds as an ONNX file (batch 1, one thread)."""
    onnx = to_onnx_fast(model, (torch.zeros(1, data.channels, *data.size),))
    return Measured(memory=step_memory(model, data, task, recipe), latency=latency(onnx, seconds=0.2).median_ms)
