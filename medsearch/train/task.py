"""What every task offers; each task is one file in ``medsearch.train.tasks``."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from medsearch.train.tasks import TASKS


class Task(Protocol):
    """A loss to train with and metrics to judge by.

    ``primary`` is the metric that decides; every metric grows with quality and is at most 1 (dB-scaled ones excepted).
    ``point`` is what people call a point of it: 0.01, or 0.1 dB.
    """

    primary: str
    point: float

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Scalar to minimise, for one batch."""
        ...

    def match(self, output: Tensor, wanted: Tensor) -> Tensor:
        """Scalar distance to another network's output for the same images: what distillation minimises."""
        ...

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Metric names to values, for a whole split."""
        ...

    def error(self, metrics: dict[str, float]) -> float:
        """What a search minimises: falls as the primary metric grows."""
        ...


def make_task(name: str, *, outputs: int, dims: int) -> Task:
    """The task called ``name`` for a network with this many outputs and spatial axes."""
    return TASKS.find(name, where="task")(outputs=outputs, dims=dims)
