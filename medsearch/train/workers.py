"""Training in worker processes: one thread each, the data handed over once.

Several single-threaded workers train more images per second together than one process with as many threads, because
small networks leave threads waiting for each other, and they do not collapse when the machine has other work to do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medsearch.backbones import Interface
from medsearch.core.children import Children, available_memory
from medsearch.data import Dataset
from medsearch.spaces import Genotype
from medsearch.tasks import make_task
from medsearch.train.evaluator import EVALUATORS, Evaluation, Evaluator, Trained
from medsearch.train.loop import TrainingRecipe
from medsearch.train.session import Leg

_data: Dataset | None = None


def _start(data: Dataset, threads: int) -> None:
    global _data
    _data = data
    torch.set_num_threads(threads)


def pool(data: Dataset, *, workers: int, threads: int = 1) -> Children:
    """Processes that hold ``data``; on a machine without a GPU none takes more memory than there is."""
    memory = None if torch.cuda.is_available() else available_memory()
    return Children(workers, start=_start, given=(data, threads), memory=memory)


def held() -> Dataset:
    """The data that this process was given by :func:`pool`."""
    assert _data is not None, "call it in a worker of pool()"
    return _data


@dataclass(frozen=True, kw_only=True)
class Remote:
    """An evaluator whose data is already in the worker, so that only its configuration travels.

    Args:
        evaluator: its name.
        interface: of the networks.
        recipe: how to train.
        leg: how far its training goes on; see :class:`~medsearch.train.evaluator.Evaluator`.
        checkpoint: from where, and where to.
        keep_model: whether the trained network is sent back.
        limit_s: seconds that it may take; a process that takes longer is ended.
    """

    evaluator: str = "training"
    interface: Interface
    recipe: TrainingRecipe
    leg: Leg | None = None
    checkpoint: Path | None = None
    keep_model: bool = False
    limit_s: float | None = None
    doing: str = "training"

    def __call__(self, genotype: Genotype) -> Evaluation:
        """Try ``genotype`` in the process this is called in."""
        data = held()
        task = make_task(self.interface.task, outputs=self.interface.outputs, dims=data.dims)
        evaluate: Evaluator = EVALUATORS.find(self.evaluator, where="--evaluator")(
            data=data,
            task=task,
            interface=self.interface,
            recipe=self.recipe,
            leg=self.leg,
            checkpoint=self.checkpoint,
        )
        found = evaluate(genotype)
        return replace(found, model=None) if isinstance(found, Trained) and not self.keep_model else found


def default_workers() -> int:
    """One worker for every processor this process may use; one in all where CUDA does the work."""
    return 1 if torch.cuda.is_available() else max(1, len(os.sched_getaffinity(0)))
