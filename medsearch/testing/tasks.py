"""The contract of a task (``medsearch.tasks``)."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from medsearch.blocks import HEADS
from medsearch.core.errors import MedsearchError
from medsearch.tasks import TASKS, Metric, Task, head_tasks
from medsearch.testing.contract import registered, wants

IMAGES, SIDE = 6, 16


def check_task(task: str | type, *, outputs: int = 3) -> None:
    """Everything that is wanted of a task, in 2D and 3D, with networks of ``outputs`` outputs."""
    name, found = registered(TASKS, task)
    wants(issubclass(found, Task), f"task {name}: is a class derived from medsearch.tasks.Task.")
    kind = cast(type[Task], found)
    _check_description(name, kind)
    for dims in (2, 3):
        made = kind(outputs=outputs, dims=dims)
        wants(made.primary in kind.METRICS, f"task {name}: primary, '{made.primary}', is not one of its METRICS.")
        _check_scores(name, made, *_example(name, kind, (SIDE,) * dims, outputs))


def _check_description(name: str, kind: type[Task]) -> None:
    described = kind.METRICS and all(isinstance(metric, Metric) for metric in kind.METRICS.values())
    wants(described, f"task {name}: METRICS describes every metric: {{'rmse': Metric(label='RMSE', better='lower')}}.")
    served = set(head_tasks(name))
    heads: Any = HEADS
    fitting = [head for head, part in heads.items() if not served.isdisjoint(part.TASKS)]
    remedy = "name it in TASKS of a head, or say whose heads serve it with HEAD_LIKE."
    wants(fitting, f"task {name}: no head serves it; {remedy}")


def _example(name: str, kind: type[Task], size: tuple[int, ...], outputs: int) -> tuple[Tensor, Tensor]:
    """An output, as of a network, and targets."""
    target, channels = kind.TARGET, outputs if kind.RESTORES else 1
    asked: Any = {"channels": channels, "size": size, "outputs": outputs}
    count, images = max(IMAGES, outputs), np.dtype(np.float32)
    targets = target.example(count, **asked, images=images)
    wanted = (count, *target.shape(**asked))
    wants(targets.shape == wanted, f"task {name}: TARGET.example gives {targets.shape}, its shape says {wanted}.")
    dtype = target.dtype(images)
    wants(targets.dtype == dtype, f"task {name}: TARGET.example gives {targets.dtype}, its dtype says {dtype}.")
    classes = [f"class {label}" for label in range(outputs if target.classes else 0)]
    try:
        target.check(targets, classes=classes, where="example")
    except MedsearchError as refusal:
        raise AssertionError(f"task {name}: TARGET.check refuses its own example: {refusal}") from refusal
    found = target.outputs(targets, channels=channels, classes=len(classes))
    wants(found == outputs, f"task {name}: TARGET.outputs says {found} for an example of {outputs} outputs.")
    return torch.randn(count, outputs, *(size if kind.DENSE else ())), target.tensor(targets)


def _check_scores(name: str, task: Task, output: Tensor, target: Tensor) -> None:
    """Loss, distance and metrics of an output; all of them plain and finite."""
    output.requires_grad_()
    loss = task.loss(output, target)
    wants(loss.ndim == 0 and loss.isfinite(), f"task {name}: loss is one finite number, got {loss}.")
    (slope,) = torch.autograd.grad(loss, output)
    wants(slope.isfinite().all() and slope.any(), f"task {name}: the loss has no finite gradient at the output.")
    output = output.detach()
    distance = float(task.match(output, output))
    wants(abs(distance) < 1e-5, f"task {name}: match is 0 for the same output, got {distance}.")
    distance = float(task.match(output + torch.randn_like(output), output))
    wants(distance > 0, f"task {name}: match is above 0 for another output, got {distance}.")
    metrics = task.metrics(output, target)
    found, described = sorted(metrics), sorted(task.METRICS)
    wants(found == described, f"task {name}: metrics are {found}, METRICS describes {described}.")
    plain = all(type(value) is float and math.isfinite(value) for value in metrics.values())
    wants(plain, f"task {name}: every metric is a finite float, got {metrics}.")
    step = task.deciding.point if task.deciding.better == "higher" else -task.deciding.point
    better = {**metrics, task.primary: metrics[task.primary] + step}
    falls = task.error(better) < task.error(metrics)
    wants(falls, f"task {name}: error falls as '{task.primary}' gets better, which is {task.deciding.better}.")
