"""Begin a run, or go on with one: nobody else may be at it, and it has to work on what it was begun with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from medsearch.config import SearchConfig
from medsearch.core.errors import DataError, RunError, SpaceError, UsageError
from medsearch.core.files import read_text, remove_temporaries
from medsearch.core.library import find
from medsearch.core.lock import hold
from medsearch.core.units import format_seconds
from medsearch.pipeline.setup import Setup, prepare, space_name
from medsearch.run import Inputs, Run
from medsearch.spaces import load_space
from medsearch.tasks import task_type

COMPARED = {
    "task": "the task",
    "channels": "channels",
    "size": "the size of an image",
    "classes": "classes",
    "images": "images",
    "groups": "groups",
    "mean": "the mean of the training images",
    "per_class": "targets",
}
"""What to say of a data set that is another one, by the keys of its fingerprint."""

LIMITS, PLACES = ("time", "trials"), ("data", "space")
"""What may be given anew to a run that goes on."""

MOST_SAID = 6
"""Differences that are listed."""


@contextmanager
def begin(config: SearchConfig, *, out: Path | None, command: str) -> Iterator[tuple[Run, Setup]]:
    """A new run in a folder that no other process works in until the block ends, and what it works on.

    Args:
        config: what is asked for.
        out: the folder; None for ``runs/<data>-<date and time>``.
        command: that asks for it.

    Raises:
        MedsearchError: for anything that is wrong with what was asked; then no folder is left behind.
    """
    folder = out or _run_folder(config)
    Run.check_empty(folder)
    setup = prepare(config)
    inputs = Inputs(data=setup.data.fingerprint(), space=setup.space.fingerprint())
    text = read_text(find("spaces", space_name(config, setup.data)), error=SpaceError)
    with hold(folder):
        yield Run.create(folder, config, command, inputs, space=text), setup


def _run_folder(config: SearchConfig) -> Path:
    name = Path(config.data).stem if config.data else "brain2d"
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


@contextmanager
def go_on(folder: Path, given: Mapping[str, Any]) -> Iterator[tuple[Run, Setup]]:
    """A run that was begun before, interrupted or finished, as :func:`begin` gives a new one.

    Args:
        folder: of the run.
        given: the options that are given now, read; only new limits and places may differ from before.

    Raises:
        RunError: if another process works on it, if it is finished and nothing more is asked for.
        DataError, SpaceError: if data or space are not where they were, or not what they were.
        UsageError: for an option that would no longer be that of the trials which are there.
    """
    Run.check_begun(folder)
    with hold(folder):
        run = Run.resume(folder)
        config = _extended(run, given)
        setup = _prepared(run, config)
        remove_temporaries(folder)
        if config != run.config or run.finished:
            limited = replace(config, data=run.config.data, space=run.config.space) != run.config
            (run.begin_again if limited or run.finished else run.keep)(config)
        yield run, setup


def _extended(run: Run, given: Mapping[str, Any]) -> SearchConfig:
    """The configuration of a run with the limits and places that are given now."""
    limits = {name: given[name] for name in LIMITS if name in given}
    places = {name: given[name] for name in PLACES if name in given}
    for name, value in given.items():
        if name not in (*LIMITS, *PLACES) and value != (kept := getattr(run.config, name)):
            problem = f"the run was begun with {name} = {kept}, now {value} is asked for."
            remedy = "Beside --resume, only --time, --trials, and the places of --data and --space may change."
            raise UsageError("--resume", problem, remedy)
    _check_limits(run, **limits)
    if run.finished:
        limits = {**dict.fromkeys(LIMITS), **limits}
    return replace(run.config, **limits, **places)


def _check_limits(run: Run, *, time: float | None = None, trials: int | None = None) -> None:
    """Refuse totals that are used up already."""
    spent, finished = run.seconds, run.finished
    if finished and time is None and trials is None:
        remedy = f"Read {run.folder / 'report.md'} - or extend it, by a total over all its starts: {run.longer_command}"
        raise RunError(str(run.folder), "this search is finished.", remedy)
    if time is not None and time <= spent:
        problem = f"is the time of all starts together: {format_seconds(spent)} are used, {format_seconds(time)} given."
        raise RunError("--time", problem, f"Give more than what is used: {run.longer_command}")
    if finished and trials is not None and trials <= (done := run.trials_in_results()):
        problem = f"is the number of all starts together: {done} are done, {trials} given."
        raise RunError("--trials", problem, f"Give more than what is done: {run.resume_command} --trials {2 * done}")


def _prepared(run: Run, config: SearchConfig) -> Setup:
    """What the run works on, if that is what it was begun with."""
    was = f"{run.resume_command} --space {run.space}"
    if config.data is not None and Path(config.data).is_absolute() and not Path(config.data).exists():
        remedy = f"Say where they are now: {run.resume_command} --data PLACE"
        raise DataError(config.data, "the images that this run was begun with are no longer there.", remedy)
    if str(config.space).endswith((".yaml", ".yml")) and not Path(str(config.space)).exists():
        raise SpaceError(str(config.space), "is no longer there.", f"Go on with the space as it was: {was}")
    try:
        setup = prepare(config)
    except SpaceError as problem:
        remedy = f"{problem.remedy} The space as it was: {was}".strip()
        raise SpaceError(problem.where, problem.problem, remedy) from problem
    if differences := _differences(run.inputs.data, setup.data.fingerprint()):
        remedy = f"Give the data it was begun with ({run.resume_command} --data PLACE), or begin a new run."
        raise DataError(setup.data.source, f"is not what this run was begun with: {_first(differences)}.", remedy)
    if setup.space.fingerprint() != run.inputs.space:
        task = setup.data.task
        before = load_space(str(run.space), task=task, like=task_type(task).HEAD_LIKE)
        said = _first(setup.space.differences(before)) or f"{run.space} was changed as well"
        raise SpaceError(setup.space.source, f"is not what this run was begun with: {said}.", f"As it was: {was}")
    return setup


def _differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what a data set is another one; nothing if it is the same."""
    if was["sha256"] == now["sha256"]:
        return []
    said = [line for key, what in COMPARED.items() for line in _changes(what, was[key], now[key])]
    return said or ["images or targets have other values"]


def _changes(what: str, was: Any, now: Any) -> Iterator[str]:
    """``images of train: 14 (was 12)``."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*now, *was)):
            yield from _changes(f"{what} of {key}", was.get(key), now.get(key))
    elif was != now:
        yield f"{what}: {_words(now)} (was {_words(was)})"


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def _first(said: Sequence[str]) -> str:
    """The first of many differences."""
    more = f"; and {len(said) - MOST_SAID} more" if len(said) > MOST_SAID else ""
    return "; ".join(said[:MOST_SAID]) + more
