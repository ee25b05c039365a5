"""``medsearch bench``: files side by side, in one process, as ratios."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medsearch.core.errors import UsageError
from medsearch.core.units import format_bytes
from medsearch.exporters.checkpoint import load_model
from medsearch.measurement.latency.timing import paired, timed
from medsearch.targets import DEFAULT
from medsearch.targets.target import Shape, Target, make_target, named_by_suffix


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A file on the target that runs it."""

    path: Path
    name: str
    target: Target
    artifact: bytes = field(repr=False)
    shapes: tuple[Shape, ...]
    run: Callable[[], object]


def bench(files: list[Path], *, threads: int, target: str | None = None) -> list[dict[str, Any]]:
    """One row a file: size, latency, and how many times faster than the first, by pairs of runs in turns.

    Args:
        files: artifacts of deployment targets, or model.pt, which are exported for the default one.
        threads: of the targets.
        target: that runs all files; None finds one for each by its ending.
    """
    opened = [_open(path, threads=threads, target=target) for path in files]
    first, rows = opened[0], []
    for one in opened:
        if one.shapes != first.shapes:
            problem = f"takes {one.shapes}, {first.path} takes {first.shapes}."
            raise UsageError(str(one.path), problem, "Compare like with like.")
        if one is first:
            latency, faster = timed(one.run, seconds=1.0, clock=one.target.clock), 1.0
        else:
            now = one.target.clock if one.name == first.name else time.perf_counter
            faster, _, latency = paired(first.run, one.run, now=now, seconds=2.0)
        rows.append(
            {
                "file": str(one.path),
                "target": one.name,
                "size": format_bytes(len(one.artifact)),
                "median ms": round(latency.median_ms, 4),
                "times as fast": round(faster, 3),
                "threads": threads,
            }
        )
    return rows


def _open(path: Path, *, threads: int, target: str | None) -> Opened:
    name = target or (DEFAULT if path.suffix == ".pt" else named_by_suffix(path.suffix, where=str(path)))
    chosen = make_target(name, threads)
    artifact = _read(path, chosen)
    try:
        shapes, run = chosen.input_shapes(artifact), chosen.runner(artifact)
    except Exception as problem:  # a target has no common class for what it refuses
        raise UsageError(str(path), f"is not a model that {name} can open.", str(problem)) from problem
    return Opened(path=path, name=name, target=chosen, artifact=artifact, shapes=shapes, run=run)


def _read(path: Path, target: Target) -> bytes:
    if path.suffix == ".pt":
        checkpoint = load_model(path)
        return target.export(checkpoint.build(), torch.zeros(1, checkpoint.interface.channels, *checkpoint.size))
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UsageError(str(path), f"cannot be read: {problem.strerror}.") from problem
