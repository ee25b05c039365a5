"""``medsearch bench``: files side by side, in one process, as ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsearch.core.errors import UsageError
from medsearch.core.units import format_bytes
from medsearch.exporters.checkpoint import load_model
from medsearch.exporters.onnx import to_onnx
from medsearch.measurement.latency.timing import input_shapes, latency, paired_benchmark, session


def bench(files: list[Path], *, threads: int) -> list[dict[str, Any]]:
    """One row a file: size, latency, and how many times faster than the first, by pairs of runs in turns."""
    models = [_read(path) for path in files]
    shapes = _shapes(models[0], files[0])
    rows = []
    for path, model in zip(files, models, strict=True):
        if _shapes(model, path) != shapes:
            raise UsageError(
                str(path), f"takes {_shapes(model, path)}, {files[0]} takes {shapes}.", "Compare like with like."
            )
        if model is models[0]:
            timed, faster = latency(model, shapes, threads=threads, seconds=1.0), 1.0
        else:
            faster, _, timed = paired_benchmark(models[0], model, shapes, threads=threads, seconds=2.0)
        rows.append(
            {
                "file": str(path),
                "size": format_bytes(len(model)),
                "median ms": round(timed.median_ms, 4),
                "times as fast": round(faster, 3),
                "threads": threads,
            }
        )
    return rows


def _read(path: Path) -> bytes:
    if path.suffix == ".pt":
        checkpoint = load_model(path)
        return to_onnx(checkpoint.build(), checkpoint.size, checkpoint.interface.channels)
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UsageError(str(path), f"cannot be read: {problem.strerror}.") from problem


def _shapes(model: bytes, path: Path) -> tuple[tuple[int, ...], ...]:
    try:
        return input_shapes(session(model))
    except Exception as problem:  # the runtime has no common class for what it refuses
        raise UsageError(str(path), "is not a model that ONNX Runtime can open.", str(problem)) from problem
