"""Timing in a process that does nothing else.

What a program has done before decides where its memory lies, and that makes up to a quarter of a small network's time:
in a process that has trained, the same file takes longer than in one that only runs it, as a device does.  The files
are handed to a child over its standard input; it ends when that is closed, so that a killed parent leaves none behind.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import IO, Any

from medsearch.core.errors import RunError
from medsearch.core.plugins import in_use, use
from medsearch.measure.latency import steady
from medsearch.measure.runtime import DEFAULT, RUNTIMES, Runtime

YARDSTICKS = 8
"""Sessions of the yardstick that take turns from file to file: each lies elsewhere in memory."""


def ratio_alone(
    model: bytes, yardstick: bytes, *, threads: int, seconds: float, runtime: str = DEFAULT
) -> tuple[float, float]:
    """:func:`~medsearch.measure.latency.steady` in a process of its own.

    Args:
        model, yardstick: ONNX files.
        threads: of the runtime.
        seconds: of timing.
        runtime: that runs them, by name.

    Raises:
        RunError: if the file cannot be run, or the process was killed.
    """
    child = _child()
    assert child.stdin and child.stdout
    head = {"runtime": runtime, "plugins": in_use(), "threads": threads, "seconds": seconds}
    head["sizes"] = [len(model), len(yardstick)]
    try:
        for part in (json.dumps(head).encode() + b"\n", model, yardstick):
            child.stdin.write(part)
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
    except (OSError, ValueError) as problem:
        restart()
        raise RunError("timing", "the process that times networks was killed.", "Try again.") from problem
    except BaseException:  # an answer that nobody reads would be taken for that of the next file
        restart()
        raise
    if "error" in answer:
        raise RunError("timing", f"{runtime} does not run the file: {answer['error']}.")
    return answer["ratio"], answer["pace"]


def restart() -> None:
    """End the process; the next file gets a new one, with its memory elsewhere."""
    if _child.cache_info().currsize:
        child = _child()
        _child.cache_clear()
        child.kill()
        child.communicate()


@cache
def _child() -> subprocess.Popen[bytes]:
    """The process, begun when it is first wanted; it does not hear Ctrl-C."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "medsearch.measure.timer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path)},
        start_new_session=True,
    )
    atexit.register(child.kill)
    return child


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are none: a line of JSON with the length of two files, and the files."""
    beside: dict[tuple[bytes, str, int], list[Callable[[], object]]] = {}
    asked = 0
    while line := requests.readline():
        head = json.loads(line)
        model, yardstick = (requests.read(size) for size in head["sizes"])
        answer: dict[str, Any]
        try:
            use(head["plugins"])
            runtime: Runtime = RUNTIMES.find(head["runtime"], where="--runtime")(head["threads"])
            known = (yardstick, head["runtime"], head["threads"])
            if known not in beside:
                beside[known] = [runtime.runner(yardstick) for _ in range(YARDSTICKS)]
            turn = beside[known][asked % YARDSTICKS]
            ratio, pace = steady(runtime.runner(model), turn, now=runtime.clock, seconds=head["seconds"])
            answer = {"ratio": ratio, "pace": pace}
        except Exception as problem:  # the runtime has no common class for what it refuses
            answer = {"error": str(problem)}
        asked += 1
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plugin or a runtime prints is no answer
    serve(sys.stdin.buffer, answers)
