"""Begin a run, or go on with one: nobody else may be at it, and it has to work on what it was begun with."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsearch.core.config import read_yaml
from medsearch.core.errors import DataError, SpaceError
from medsearch.core.files import read_text, remove_temporaries
from medsearch.core.library import find
from medsearch.core.lock import hold
from medsearch.pipeline.options import run_folder, settings_of, with_more
from medsearch.pipeline.setup import Setup, prepare, space_name
from medsearch.run import Inputs, Run, SearchConfig
from medsearch.spaces import read_space

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

MOST_SAID = 6
"""Differences that are listed."""


@contextmanager
def begin(options: argparse.Namespace) -> Iterator[tuple[Run, Setup]]:
    """A new run in a folder that no other process works in until the block ends, and what it works on.

    Raises:
        MedsearchError: for anything that is wrong with what was asked; then no folder is left behind.
    """
    config = settings_of(options)
    folder = run_folder(options.out, config)
    Run.check_empty(folder)
    setup = prepare(config)
    inputs = Inputs(data=setup.data.fingerprint(), space=setup.space.fingerprint())
    text = read_text(find("spaces", space_name(config, setup.data)), error=SpaceError)
    with hold(folder):
        yield Run.create(folder, config, options.command, inputs, space=text), setup


@contextmanager
def go_on(options: argparse.Namespace) -> Iterator[tuple[Run, Setup]]:
    """A run that was begun before, interrupted or finished, as :func:`begin` gives a new one.

    Raises:
        RunError: if another process works on it, if it is finished and nothing more is asked for.
        DataError, SpaceError: if data or space are not where they were, or not what they were.
    """
    folder = Path(options.resume)
    Run.check_begun(folder)
    with hold(folder):
        run = Run.resume(folder)
        config = with_more(run, options)
        setup = _prepared(run, config)
        remove_temporaries(folder)
        if config != run.config or run.finished:
            limited = replace(config, data=run.config.data, space=run.config.space) != run.config
            (run.begin_again if limited or run.finished else run.keep)(config)
        yield run, setup


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
        before = read_space(read_yaml(run.space), str(run.space), task=setup.data.task)
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
