"""Options of the command line and of recipes to the settings of a search."""

from __future__ import annotations

import argparse
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from medsearch.core.config import Node, read_node
from medsearch.core.errors import UsageError
from medsearch.core.library import find
from medsearch.core.units import parse_bytes, parse_count, parse_seconds
from medsearch.run import Settings

TEXTS = ("data", "task", "space", "strategy", "precision", "profile", "runtime")
PRECISIONS = ("fp32", "bf16")
WHOLE = ("trials", "finalists", "seed", "batch", "epochs_search", "epochs", "workers", "latency_threads")
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


def settings_of(options: argparse.Namespace) -> Settings:
    """The settings that the recipe and then the command line ask for.

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
    settings = Settings(**values)
    if settings.data is not None and Path(settings.data).exists():
        settings = replace(settings, data=str(Path(settings.data)))
    return settings


def with_more(settings: Settings, options: argparse.Namespace) -> Settings:
    """The settings of an interrupted run with the time or the number of trials that the command line now gives.

    Raises:
        UsageError: for a setting that would no longer be that of the trials which are there.
    """
    asked, default = vars(settings_of(options)), vars(Settings())
    given = {name: value for name, value in asked.items() if value != default[name]}
    more = {name: given.pop(name) for name in ("seconds", "trials") if name in given}
    for name, value in given.items():
        if value != (kept := getattr(settings, name)):
            problem = f"the run was begun with {name} = {kept}, now {value} is asked for."
            raise UsageError("--resume", problem, "Beside --resume, only --time and --trials may change.")
    return replace(settings, **more)


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


def run_folder(out: str | None, settings: Settings) -> Path:
    """Where a run goes: as asked, or ``runs/<data>-<date and time>``."""
    if out:
        return Path(out)
    name = Path(settings.data).stem if settings.data else "brain2d"
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
