"""Which of two ONNX files is faster, decided by processor time, so that what else the machine does hardly counts."""

from __future__ import annotations

import random
import statistics
import time

from medsearch.measure.latency import Latency, feeds, session

WARM_UP = 3


def duel(one: bytes, other: bytes, shape: tuple[int, ...], *, seconds: float = 0.4) -> tuple[float, Latency, Latency]:
    """How many times faster ``other`` is than ``one`` with one thread: the median over pairs of runs, in random order.

    With one thread ONNX Runtime computes in the calling thread, whose processor time is counted: no run is charged for
    waiting while others have the processor, and by the random order none for what the one before it left in the caches.
    """
    runs = []
    for data in (one, other):
        opened = session(data, threads=1)
        inputs = feeds(opened, (shape,))
        runs.append(lambda opened=opened, inputs=inputs: opened.run(None, inputs))
    order = random.Random(0)
    spent: tuple[list[int], list[int]] = ([], [])
    end = time.perf_counter() + seconds
    while len(spent[0]) < 10 + WARM_UP or (time.perf_counter() < end and len(spent[0]) < 2000):
        for index in order.sample((0, 1), 2):
            start = time.thread_time_ns()
            runs[index]()
            spent[index].append(time.thread_time_ns() - start)
    first, second = (nanoseconds[WARM_UP:] for nanoseconds in spent)
    return statistics.median(a / b for a, b in zip(first, second, strict=True)), _summary(first), _summary(second)


def _summary(nanoseconds: list[int]) -> Latency:
    low, median, high = (value * 1e-6 for value in statistics.quantiles(nanoseconds, n=4))
    return Latency(median_ms=median, quartile_low_ms=low, quartile_high_ms=high, runs=len(nanoseconds))
