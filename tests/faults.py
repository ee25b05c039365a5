"""Ways to die, for ``medsearch --plugin faults``: a child of a search ends in a place that is named, as often as asked.

The environment says which: ``FAULTS`` is ``probe=SIGFPE,trial=hang*2,...`` - place, way, and how many times - and
``FAULTS_DONE`` a folder in which what has happened is noted, so that children that come after know of it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANGS_SECONDS = 8.0
"""After which a child counts as hanging, where the search would wait for minutes."""


def die(way: str) -> None:
    """End this process, or make it useless."""
    if way == "hang":
        while True:
            time.sleep(1)
    if way == "eat":
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        most = pages * resource.getpagesize() + 2**28
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        eaten = []
        while True:
            eaten.append(bytearray(2**24))
    os.kill(os.getpid(), signal.Signals[way])
    time.sleep(60)


def asked() -> dict[str, tuple[str, int]]:
    """What the environment says: place to way and times."""
    found = {}
    for entry in filter(None, os.environ.get("FAULTS", "").split(",")):
        place, way = entry.split("=")
        way, _, times = way.partition("*")
        found[place] = (way, int(times or 1))
    return found


def due(place: str) -> str | None:
    """How to die in this place now, if at all; notes that it happens."""
    way, times = asked().get(place, ("", 0))
    folder = Path(os.environ["FAULTS_DONE"])
    if len(list(folder.glob(f"{place}-*"))) >= times:
        return None
    (folder / f"{place}-{time.time_ns()}").touch()
    return way


def deadly(place: str, function: Callable[..., Any], when: Callable[..., bool] = lambda *_, **__: True) -> Any:
    """``function``, in which this process may die first."""

    @functools.wraps(function)
    def wrapped(*args: Any, **named: Any) -> Any:
        if when(*args, **named) and (way := due(place)):
            die(way)
        return function(*args, **named)

    return wrapped


def in_children() -> None:
    """Make the functions deadly that a search calls in its children."""
    from medsearch.measurement.latency import timer
    from medsearch.measurement.latency.parts import PartBenchmark
    from medsearch.measurement.memory import workspace
    from medsearch.pipeline import deliver
    from medsearch.train.workers import Remote

    evaluate = deadly("trial", Remote.__call__, lambda remote, *_: not remote.keep_model)
    Remote.__call__ = deadly("finalist", evaluate, lambda remote, *_: remote.keep_model)  # type: ignore[method-assign]
    PartBenchmark.artifact = deadly("export", PartBenchmark.artifact)  # type: ignore[method-assign]
    timer.steady = deadly("timing", timer.steady)
    deliver.checked_artifact = deadly("delivery", deliver.checked_artifact)
    workspace.run_operator = deadly("probe", workspace.run_operator)


def in_the_search() -> None:
    """Wait only seconds for what hangs."""
    from medsearch.core.children import Children

    submit = Children.submit

    @functools.wraps(submit)
    def shorter(self: Children, function: Any, /, *args: Any, **named: Any) -> Any:
        if asked().get(_place(function, named.get("doing", "")), ("",))[0] == "hang":
            named["limit_s"] = HANGS_SECONDS
        return submit(self, function, *args, **named)

    Children.submit = shorter  # type: ignore[method-assign]


def _place(function: Any, doing: str) -> str:
    """The place of a thing that the search asks for."""
    if doing == "training" or getattr(function, "doing", "") == "training":
        return "finalist" if function.keep_model else "trial"
    known = {"exporting a part": "export", "delivery": "delivery", "probing an operator": "probe"}
    return "timing" if doing.startswith("timing in") else known.get(doing, "")


if multiprocessing.parent_process() is None:
    in_the_search()
else:
    in_children()
