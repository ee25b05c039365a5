"""Latency: medians, and pairs in turns."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medsearch.targets.onnx_runtime import feeds, session
from medsearch.targets.target import clock

WARM_UP, LEAST = 3, 10
"""Pairs that do not count, and fewest that do."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds per run: median, and the spread between the quartiles."""

    median_ms: float
    quartile_low_ms: float
    quartile_high_ms: float
    runs: int

    @classmethod
    def of(cls, spent_ms: Sequence[float]) -> Latency:
        """Summarise single runs; endless where one of them is."""
        if math.inf in spent_ms:
            return cls(median_ms=math.inf, quartile_low_ms=math.inf, quartile_high_ms=math.inf, runs=len(spent_ms))
        low, median, high = statistics.quantiles(spent_ms, n=4)
        return cls(median_ms=median, quartile_low_ms=low, quartile_high_ms=high, runs=len(spent_ms))


def timed(run: Callable[[], object], *, seconds: float, clock: Callable[[], float]) -> Latency:
    """Median and quartiles of the time of ``run()`` over about ``seconds``, after three runs of warm-up."""
    for _ in range(3):
        run()
    spent: list[float] = []
    end = clock() + seconds
    while len(spent) < 10 or (clock() < end and len(spent) < 1000):
        start = clock()
        run()
        spent.append((clock() - start) * 1e3)
    return Latency.of(spent)


def steady(
    model: Callable[[], object], reference: Callable[[], object], *, now: Callable[[], float], seconds: float
) -> tuple[float, float]:
    """How many times as long as a reference workload a model takes, and the milliseconds of that workload meanwhile.

    Runs of the two take turns, and the ratio is the median over pairs: when the machine slows down for a while, both
    do.  The second number is the lower quartile.

    Args:
        model, reference: run one of them once.
        now: the clock.
        seconds: for all runs together, after warming up; at least three pairs are timed, or one where a single run
            takes longer than that.
    """

    def pair() -> tuple[float, float]:
        start = now()
        model()
        middle = now()
        reference()
        return middle - start, now() - middle

    long = sum(pair()) > seconds
    for _ in range(0 if long else WARM_UP - 1):
        pair()
    end = now() + seconds
    pairs = [pair()]
    while (len(pairs) < 3 and not long) or (now() < end and len(pairs) < 1000):
        pairs.append(pair())
    ratio = statistics.median(first / max(second, 1e-9) for first, second in pairs)
    spent = [second for _, second in pairs]
    return ratio, 1e3 * (statistics.quantiles(spent, n=4)[0] if len(spent) > 1 else spent[0])


def paired_benchmark(
    one: bytes | Path,
    other: bytes | Path,
    shapes: tuple[tuple[int, ...], ...] | None = None,
    *,
    threads: int = 1,
    seconds: float = 0.4,
) -> tuple[float, Latency, Latency]:
    """:func:`paired` for two ONNX files in ONNX Runtime on the processor.

    Args:
        one, other: ONNX files.
        shapes: of the inputs; None as the file says, batch 1.
        threads: of the runtime; see :func:`~medsearch.targets.target.clock`.
        seconds: for all timed runs together.
    """
    runs = []
    for model in (one, other):
        opened = session(model, threads=threads)
        runs.append(partial(opened.run, None, feeds(opened, shapes)))
    return paired(*runs, now=clock(threads), seconds=seconds)


def paired(
    one: Callable[[], object], other: Callable[[], object], *, now: Callable[[], float], seconds: float
) -> tuple[float, Latency, Latency]:
    """How many times faster ``other`` is than ``one``, as median over pairs of runs in random order; both latencies.

    Both runs of a pair lie within the same few milliseconds, so that what changes on the machine meets both; every
    timed run follows one of the same that is not timed, so that none is charged for filling the caches.

    Args:
        one, other: run one of them once.
        now: the clock.
        seconds: for all timed runs together.
    """
    runs, order = (one, other), random.Random(0)
    spent: tuple[list[float], list[float]] = ([], [])
    end = now() + seconds
    while len(spent[0]) < WARM_UP + LEAST or (now() < end and len(spent[0]) < 2000):
        for index in order.sample((0, 1), 2):
            runs[index]()
            start = now()
            runs[index]()
            spent[index].append((now() - start) * 1e3)
    first, second = (milliseconds[WARM_UP:] for milliseconds in spent)
    return statistics.median(a / b for a, b in zip(first, second, strict=True)), Latency.of(first), Latency.of(second)
