"""Which of two ONNX files is faster, decided by processor time, so that what else the machine does hardly counts."""

from __future__ import annotations

import random
import statistics
import time

from medsearch.measure.latency import Latency, feeds, session

WARM_UP, LEAST = 3, 10
"""Runs that do not count, and fewest that do."""


def duel(one: bytes, other: bytes, shape: tuple[int, ...], *, seconds: float = 0.4) -> tuple[float, Latency, Latency]:
    """How many times faster ``other`` is than ``one``, as median over pairs of runs in random order; both latencies.

    With one thread ONNX Runtime computes in the calling thread, whose processor time is counted, so that no run is
    charged for waiting while others have the processor; every timed run follows one of the same file that is not timed,
    so that none is charged for filling the caches.

    Args:
        shape: of the input.
        seconds: processor time for all runs together.
    """
    runs = []
    for data in (one, other):
        opened = session(data, threads=1)
        inputs = feeds(opened, (shape,))
        runs.append(lambda opened=opened, inputs=inputs: opened.run(None, inputs))
    order = random.Random(0)
    spent: tuple[list[float], list[float]] = ([], [])
    end = time.thread_time() + seconds
    while len(spent[0]) < WARM_UP + LEAST or time.thread_time() < end:
        for index in order.sample((0, 1), 2):
            runs[index]()
            start = time.thread_time_ns()
            runs[index]()
            spent[index].append((time.thread_time_ns() - start) * 1e-6)
    first, second = (milliseconds[WARM_UP:] for milliseconds in spent)
    return statistics.median(a / b for a, b in zip(first, second, strict=True)), Latency.of(first), Latency.of(second)
