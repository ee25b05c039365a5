"""Timing in a process that does nothing else.

What a program has done before decides where its memory lies, and that makes up to a quarter of a small network's time:
in a process that has trained, the same file takes longer than in one that only runs it, as a device does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from medsearch.core.children import Children
from medsearch.core.errors import RunError
from medsearch.measurement.latency.timing import steady
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target

REFERENCE_SESSIONS = 8
"""Sessions of the reference workload that take turns from file to file: each lies elsewhere in memory."""


def ratio_alone(
    model: bytes, reference: bytes, *, threads: int, seconds: float, target: str = DEFAULT
) -> tuple[float, float]:
    """:func:`~medsearch.measurement.latency.timing.steady` in a process of its own.

    Args:
        model, reference: artifacts.
        threads: of the target.
        seconds: of timing.
        target: that runs them, by name.

    Raises:
        RunError: if the target refuses the file.
        ChildDied: if the process ended.
    """
    doing = f"timing in {target}"
    ratio, pace = _child().call(_session, model, reference, target, threads, seconds, doing=doing)
    return ratio, pace


def begin() -> None:
    """Begin the process, so that it is there when something is to be timed; returns at once."""
    _child()


def restart() -> None:
    """End the process; the next file gets a new one, with its memory elsewhere."""
    if _child.cache_info().currsize:
        child = _child()
        _child.cache_clear()
        child.close()


@cache
def _child() -> Children:
    """The process, begun when it is first wanted."""
    return Children(1)


_beside: dict[tuple[bytes, str, int], list[Callable[[], object]]] = {}
_asked = 0


def _session(model: bytes, reference: bytes, target: str, threads: int, seconds: float) -> tuple[float, float]:
    """One session, in the process that times."""
    global _asked
    try:
        made = make_target(target, threads)
        known = (reference, target, threads)
        if known not in _beside:
            _beside[known] = [made.runner(reference) for _ in range(REFERENCE_SESSIONS)]
        turn = _beside[known][_asked % REFERENCE_SESSIONS]
        return steady(made.runner(model), turn, now=made.clock, seconds=seconds)
    except Exception as problem:  # a target has no common class for what it refuses
        raise RunError("timing", f"{target} does not run the file: {problem}.") from problem
    finally:
        _asked += 1
