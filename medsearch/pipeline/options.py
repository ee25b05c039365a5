"""Options of the command line and of recipes to the configuration of a search."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from medsearch.core.config import Node, read_node
from medsearch.core.errors import RunError, UsageError
from medsearch.core.library import find
from medsearch.core.units import format_seconds, parse_bytes, parse_count, parse_seconds
from medsearch.data.load import is_embedded
from medsearch.run import Run, SearchConfig

TEXTS = ("data", "task", "space", "strategy", "precision", "profile", "runtime")
PRECISIONS = ("fp32", "bf16")
WHOLE = ("trials", "finalists", "seed", "batch", "epochs_search", "epochs", "workers", "latency_threads")
LIMITS = ("seconds", "trials")
FLAGS = ("compress", "fit_batch")
QUANTITIES = {
    "budget_mem": ("memory_bytes", parse_bytes),
    "budget_latency": ("latency_ms", lambda text, where: parse_seconds(text, where=where) * 1e3),
    "budget_params": ("parameters", parse_count),
    "budget_infer_mem": ("inference_bytes", parse_bytes),
    "budget_macs": ("macs", parse_count),
    "budget_file": ("file_bytes", parse_bytes),
    "time": ("seconds", parse_seconds),
}


def settings_of(options: argparse.Namespace) -> SearchConfig:
    """What the recipe and then the command line ask for.

    Raises:
        MedsearchError: for a unit, number or recipe key that cannot be read.
    """
    values = _recipe(options.recipe) if options.recipe else {}
    for name in (*TEXTS, *WHOLE, *FLAGS):
        if getattr(options, name) is not None:
            values[name] = getattr(options, name)
    for name, (field, parse) in QUANTITIES.items():
        if (text := getattr(options, name)) is not None:
            values[field] = parse(text, where=f"--{name.replace('_', '-')}")  # type: ignore[operator]
    for name in WHOLE:
        least = 0 if name == "seed" else 1
        if name in values and values[name] < least:
            raise UsageError(f"--{name.replace('_', '-')}", f"expected at least {least}, got {values[name]}.")
    return SearchConfig(**{**values, **_absolute(values)})


def _absolute(values: dict[str, Any]) -> dict[str, str]:
    """Whole paths of the files that are named, so that a run goes on from any folder."""
    paths = {name: values[name] for name in ("space", "profile") if values.get(name) is not None}
    if values.get("data") is not None and not is_embedded(values["data"]):
        paths["data"] = values["data"]
    if not str(paths.get("space", "")).endswith((".yaml", ".yml")):
        paths.pop("space", None)
    return {name: os.path.abspath(path) for name, path in paths.items() if Path(path).exists()}


def with_more(run: Run, options: argparse.Namespace) -> SearchConfig:
    """The configuration of a run with the limits and the places of data and space that the command line now gives.

    Raises:
        UsageError: for a setting that would no longer be that of the trials which are there.
        RunError: for a finished run without new limits, and for limits that leave nothing to do.
    """
    asked, default = vars(settings_of(options)), vars(SearchConfig())
    given = {name: value for name, value in asked.items() if value != default[name]}
    limits = {name: given.pop(name) for name in LIMITS if name in given}
    places = {name: given.pop(name) for name in ("data", "space") if name in given}
    for name, value in given.items():
        if value != (kept := getattr(run.config, name)):
            problem = f"the run was begun with {name} = {kept}, now {value} is asked for."
            remedy = "Beside --resume, only --time, --trials, and the places of --data and --space may change."
            raise UsageError("--resume", problem, remedy)
    _check_limits(run, **limits)
    if run.finished:
        limits = {**dict.fromkeys(LIMITS), **limits}
    return replace(run.config, **limits, **places)


def _check_limits(run: Run, *, seconds: float | None = None, trials: int | None = None) -> None:
    """Refuse totals that are used up already."""
    spent, finished = run.seconds, run.finished
    if finished and seconds is None and trials is None:
        remedy = f"Read {run.folder / 'report.md'} - or extend it, by a total over all its starts: {run.longer_command}"
        raise RunError(str(run.folder), "this search is finished.", remedy)
    if seconds is not None and seconds <= spent:
        problem = (
            f"is the time of all starts together: {format_seconds(spent)} are used, {format_seconds(seconds)} given."
        )
        raise RunError("--time", problem, f"Give more than what is used: {run.longer_command}")
    if finished and trials is not None and trials <= (done := run.trials_in_results()):
        problem = f"is the number of all starts together: {done} are done, {trials} given."
        raise RunError("--trials", problem, f"Give more than what is done: {run.resume_command} --trials {2 * done}")


def _recipe(name: str) -> dict[str, Any]:
    node = read_node(find("recipes", name), error=UsageError)
    known = {"name", "about", *FLAGS, *TEXTS, *WHOLE, *QUANTITIES}
    entries = node.mapping(required=["name"], optional=known)
    values: dict[str, Any] = {}
    for key, entry in entries.items():
        if key == "precision":
            values[key] = entry.choice(PRECISIONS)
        elif key in TEXTS:
            values[key] = entry.text()
        elif key in WHOLE:
            values[key] = entry.integer(low=0)
        elif key in QUANTITIES:
            values |= _quantity(key, entry)
        elif key in FLAGS:
            values[key] = entry.boolean()
    return values


def _quantity(key: str, entry: Node) -> dict[str, Any]:
    field, parse = QUANTITIES[key]
    return {field: parse(str(entry.value), where=entry.where)}  # type: ignore[operator]


def run_folder(out: str | None, config: SearchConfig) -> Path:
    """Where a run goes: as asked, or ``runs/<data>-<date and time>``."""
    if out:
        return Path(out)
    name = Path(config.data).stem if config.data else "brain2d"
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
