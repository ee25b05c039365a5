"""Searching from Python."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import Any

from medsearch.api.result import SearchResult
from medsearch.config import SearchConfig, read_values
from medsearch.core.callback import Callback
from medsearch.core.errors import WriteError
from medsearch.measurement.budget import Budget
from medsearch.pipeline.begin import begin, go_on
from medsearch.pipeline.search import search as carry_out
from medsearch.pipeline.setup import Setup
from medsearch.report.log import Log
from medsearch.run import Run
from medsearch.spaces import Space


def search(
    data: str | Path | None = None,
    *,
    task: str | None = None,
    space: str | Path | Space | None = None,
    budget: Budget | Mapping[str, str | float] | None = None,
    objectives: Sequence[str] | None = None,
    fit_batch: bool | None = None,
    time: str | float | None = None,
    trials: int | None = None,
    finalists: int | None = None,
    strategy: str | None = None,
    evaluator: str | None = None,
    epochs_search: int | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    precision: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    compress: bool | None = None,
    latency_threads: int | None = None,
    target: str | None = None,
    profile: str | Path | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> SearchResult:
    """Search a space of networks on a data set; nothing over budget is trained or delivered.

    The options are those of ``medsearch search``, which its ``--help`` and :class:`~medsearch.SearchConfig` explain;
    None leaves a choice to the recipe, and without one to medsearch.

    Args:
        data: an ``.npz`` file, a folder of classes, or the name of an embedded set; None is the embedded ``brain2d``.
        space: a name, a file, or a :class:`~medsearch.Space`, which stands for the file that it was read from.
        budget: hard limits, such as ``Budget(memory="1GB", latency="20ms")``.
        objectives: costs to be small beside the error, such as ``["latency", "memory"]``, the most important first.
        time: for everything: seconds, or text such as ``"10m"``.
        recipe: name or file of a recipe; what is given here wins over it.
        out: folder of the run; None gives ``runs/<data>-<date>``.
        callbacks: told how it goes; None gives a progress display in a notebook, and records of ``logging`` elsewhere.

    Raises:
        MedsearchError: for anything that is wrong with what was asked, before anything is trained.
        RefusedError: if no trained network kept the budget when it was measured.
    """
    start, asked = monotonic(), {name: value for name, value in locals().items() if value is not None}
    given = {name: _plain(value) for name, value in asked.items() if name not in ("recipe", "out", "callbacks")}
    config = SearchConfig.read(given, recipe=None if recipe is None else str(recipe))
    told = ", ".join(f"{name}={_plain(value)!r}" for name, value in asked.items() if name != "callbacks")
    opened = begin(config, out=None if out is None else Path(out), command=f"medsearch.search({told})")
    return run(opened, callbacks, start=start)


def resume(
    folder: str | Path,
    *,
    time: str | float | None = None,
    trials: int | None = None,
    data: str | Path | None = None,
    space: str | Path | Space | None = None,
    callbacks: Sequence[Callback] | None = None,
) -> SearchResult:
    """Go on with an interrupted search, or extend a finished one by a larger ``time`` or number of ``trials``.

    Args:
        folder: of the run.
        time, trials: limits for all starts together; None keeps those of before.
        data, space: where the same data and space are now, if they were moved.
        callbacks: as for :func:`search`.

    Raises:
        MedsearchError: if the run is finished and nothing more is asked for, or is not what it was begun with.
    """
    start, asked = monotonic(), {"time": time, "trials": trials, "data": data, "space": space}
    given = {name: _plain(value) for name, value in asked.items()}
    return run(go_on(Path(folder), read_values(given, where="medsearch.resume")), callbacks, start=start)


def run(
    opened: AbstractContextManager[tuple[Run, Setup]], callbacks: Sequence[Callback] | None = None, *, start: float
) -> SearchResult:
    """Carry out a search that was begun; what interrupts it says how to go on.

    Args:
        opened: the run, and what it works on.
        callbacks: as for :func:`search`.
        start: when it was asked for, by :func:`time.monotonic`; its time counts from there.
    """
    with opened as (started, setup):
        try:
            watching = _watching() if callbacks is None else callbacks
            results = carry_out(started, setup, callbacks=watching, start=start)
        except WriteError as problem:
            remedy = f"{problem.remedy} Then go on with: {started.resume_command}"
            raise WriteError(problem.where, problem.problem, remedy) from problem
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"Go on with: {started.resume_command}") from None
    return SearchResult(started.folder, results)


def _plain(value: Any) -> Any:
    """What a configuration can keep: a space by its name or file, a path as text."""
    if isinstance(value, Space):
        return value.source
    return str(value) if isinstance(value, Path) else value


def _watching() -> list[Callback]:
    """A display where a notebook would show it; records of ``logging`` anyway."""
    if "ipykernel" in sys.modules:
        from medsearch.report.notebook import NotebookView

        return [Log(), NotebookView()]
    return [Log()]
