"""Latency of ONNX files in ONNX Runtime on the CPU: one session at a time, threads pinned, medians, pairs in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds per run: median, and the spread between the quartiles."""

    median_ms: float
    quartile_low_ms: float
    quartile_high_ms: float
    runs: int

    @classmethod
    def of(cls, spent_ms: Sequence[float]) -> Latency:
        """Summarise single runs."""
        low, median, high = statistics.quantiles(spent_ms, n=4)
        return cls(median_ms=median, quartile_low_ms=low, quartile_high_ms=high, runs=len(spent_ms))


def session(model: bytes | Path, *, threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU with all graph optimisations, pinned to ``threads``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > 1 else "1")
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def feeds(opened: Any, shapes: tuple[tuple[int, ...], ...] | None) -> dict[str, np.ndarray]:
    """Random inputs, in the range of raw intensities, for a session; without ``shapes`` as the file says, batch 1."""
    rng = np.random.default_rng(0)
    nodes = opened.get_inputs()
    shapes = input_shapes(opened) if shapes is None else shapes
    return {node.name: rng.uniform(0, 255, shape).astype(np.float32) for node, shape in zip(nodes, shapes, strict=True)}


def input_shapes(opened: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of a session's inputs as the file says them, 1 where it leaves a side open."""
    return tuple(tuple(side if isinstance(side, int) else 1 for side in node.shape) for node in opened.get_inputs())


def latency(
    model: bytes | Path, shapes: tuple[tuple[int, ...], ...] | None = None, *, threads: int = 1, seconds: float = 0.3
) -> Latency:
    """Time a model on inputs of these shapes: at least 10 runs after warming up, about ``seconds`` in all."""
    opened = session(model, threads=threads)
    inputs = feeds(opened, shapes)
    return timed(lambda: opened.run(None, inputs), seconds=seconds)


def timed(run: Callable[[], object], *, seconds: float) -> Latency:
    """Median and quartiles of the time of ``run()`` over about ``seconds``, after three runs of warm-up."""
    for _ in range(3):
        run()
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while len(spent) < 10 or (time.perf_counter() < end and len(spent) < 1000):
        start = time.perf_counter()
        run()
        spent.append((time.perf_counter() - start) * 1e3)
    return Latency.of(spent)


def ratio(
    one: bytes | Path,
    other: bytes | Path,
    shapes: tuple[tuple[int, ...], ...] | None = None,
    *,
    threads: int = 1,
    seconds: float = 2.0,
) -> tuple[float, Latency, Latency]:
    """How many times faster ``other`` is than ``one``: the median over interleaved pairs of runs in this process.

    Taking both runs of a pair within the same few milliseconds cancels what else the machine is doing.
    """
    first, second = session(one, threads=threads), session(other, threads=threads)
    inputs_first, inputs_second = feeds(first, shapes), feeds(second, shapes)
    for _ in range(3):
        first.run(None, inputs_first)
        second.run(None, inputs_second)
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while len(pairs) < 10 or (time.perf_counter() < end and len(pairs) < 2000):
        start = time.perf_counter()
        first.run(None, inputs_first)
        middle = time.perf_counter()
        second.run(None, inputs_second)
        pairs.append(((middle - start) * 1e3, (time.perf_counter() - middle) * 1e3))
    return (
        statistics.median(a / b for a, b in pairs),
        Latency.of([a for a, _ in pairs]),
        Latency.of([b for _, b in pairs]),
    )
