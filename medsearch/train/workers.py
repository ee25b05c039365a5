"""Training in worker processes: one thread each, the data handed over once.

Several single-threaded workers train more images per second together than one process with as many threads, because
small networks leave threads waiting for each other, and they do not collapse when the machine has other work to do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from medsearch.backbones import Interface
from medsearch.core import plugins
from medsearch.data import Dataset
from medsearch.spaces import Genotype
from medsearch.train.evaluator import Trained, Training
from medsearch.train.loop import Recipe, TrainingError
from medsearch.train.task import make_task

_data: Dataset | None = None


def _start(data: Dataset, threads: int, modules: Sequence[str]) -> None:
    global _data
    plugins.use(modules)
    _data = data
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait until the process that made this one is gone, and go too: a killed search leaves no worker behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def pool(data: Dataset, *, workers: int, threads: int = 1) -> Iterator[ProcessPoolExecutor]:
    """Processes that hold ``data``; they leave Ctrl-C to the process that made them, and end with the block.

    Raises:
        TrainingError: if a process was killed.
    """
    context = multiprocessing.get_context("spawn")
    given = (data, threads, plugins.in_use())
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=given)
    try:
        yield executor
    except BrokenProcessPool as problem:
        remedy = "It may have run out of memory: use fewer --workers, or a smaller --batch.  What was finished is kept."
        raise TrainingError("training", "a worker process was killed.", remedy) from problem
    finally:
        processes = list((executor._processes or {}).values())
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A :class:`Training` whose data is already in the worker, so that only settings travel.

    Args:
        interface: of the networks.
        recipe: how to train.
        evaluate_every: epochs between evaluations.
        keep_model: whether the trained network is sent back.
    """

    interface: Interface
    recipe: Recipe
    evaluate_every: int = 1
    keep_model: bool = False

    def __call__(self, genotype: Genotype, bounds: tuple[float, ...] = ()) -> Trained:
        """Train ``genotype`` in the process this is called in."""
        assert _data is not None, "call it in a worker of pool()"
        task = make_task(self.interface.task, outputs=self.interface.outputs, dims=_data.dims)
        training = Training(
            data=_data, task=task, interface=self.interface, recipe=self.recipe, evaluate_every=self.evaluate_every
        )
        return training(genotype, bounds, keep_model=self.keep_model)


def default_workers() -> int:
    """One worker for every processor this process may use; one in all where CUDA does the work."""
    return 1 if torch.cuda.is_available() else max(1, len(os.sched_getaffinity(0)))
