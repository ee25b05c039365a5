"""What a search is asked to do: the one place that says its options, keys of a recipe and arguments in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from medsearch.core.config import Node, read_node
from medsearch.core.errors import UsageError
from medsearch.core.library import find
from medsearch.core.options import Option, option, options_of
from medsearch.core.units import parse_seconds
from medsearch.measurement.budget import Budget, read_budget
from medsearch.targets import DEFAULT


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """What a search is asked to do; None leaves a choice to medsearch."""

    data: str | None = option(None, "an .npz file, a folder of classes, or an embedded set (default: embedded brain2d)")
    task: str | None = option(None, "what the networks are for, such as segmentation, where the data leaves it open")
    space: str | None = option(None, "name or file of a search space (default: by the data's dimensions)")
    budget: Budget = field(default_factory=Budget)
    objectives: tuple[str, ...] = option(
        ("latency", "memory"),
        "costs to be small beside the error, the most important first (default latency,memory)",
        example="latency,memory",
    )
    fit_batch: bool = option(
        False,
        "train each network so that a step keeps the limit of memory: the batch in pieces whose gradients add up, in "
        "16 bits unless a precision is given, blocks run again in the backward pass",
    )
    time: float | None = option(
        None, "seconds for everything (default 15m, unless trials are given)", example="10m", parse=parse_seconds
    )
    trials: int | None = option(None, "number of trials", example="N")
    finalists: int = option(3, "networks trained fully (default 3)", example="N")
    strategy: str = option("tpe", "proposes networks: tpe (default), nsga2, evolution or random")
    evaluator: str = option("training", "scores trials: training (default), or that of a plugin")
    epochs_search: int | None = option(None, "epochs of a trial's first rung (default: by the time)", example="N")
    epochs: int | None = option(None, "epochs of the full training (default: by the time)", example="N")
    batch: int | None = option(
        None, "images per training step (default: by the size of the data, at most 64 in 2D, 32 in 3D)", example="N"
    )
    precision: str | None = option(
        None, "of training (default: whichever is faster here)", choices=("fp32", "bf16"), example="fp32"
    )
    workers: int | None = option(None, "trainings at once (default: one per processor)", example="N")
    seed: int = option(0, "of every random number (default 0)", example="N", least=0)
    compress: bool = option(False, "compress the best network at the end")
    latency_threads: int = option(1, "threads of the target, for the limit of latency (default 1)", example="N")
    target: str = option(DEFAULT, f"what networks are exported for and timed on (default {DEFAULT})")
    profile: str | None = option(
        None, "file of the device's profile, as doctor --profile -o writes it (default: the one in the cache)"
    )

    @classmethod
    def read(cls, given: Mapping[str, Any], *, recipe: str | None = None, where: str = "medsearch.search") -> Self:
        """A configuration from plain values; those of a recipe count where nothing else is given.

        Args:
            given: values by option; quantities as text with units or as numbers, the budget as a mapping of limits.
            recipe: name or file of a recipe.
            where: begins the message about a wrong value.

        Raises:
            MedsearchError: for an option that does not exist, and for a value that cannot be read.
        """
        return cls(**read_values(given, recipe=recipe, where=where))

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(replace(self, budget=Budget())), "budget": dict(self.budget)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """What :meth:`to_data` gave."""
        return cls(**{**data, "budget": Budget(**data["budget"]), "objectives": tuple(data["objectives"])})


OPTIONS: dict[str, Option] = options_of(SearchConfig)
KEYS = (*OPTIONS, "budget")


def read_values(given: Mapping[str, Any], *, recipe: str | None = None, where: str) -> dict[str, Any]:
    """The values of those options that are given; see :meth:`SearchConfig.read`."""
    values = _of_recipe(recipe) if recipe else {}
    told = {name: value for name, value in given.items() if value is not None}
    now = _checked(Node(told, where, error=UsageError).mapping(optional=KEYS))
    if "budget" in values and "budget" in now:
        now["budget"] = Budget(**{**values["budget"], **now["budget"]})
    values |= now
    return {**values, **_absolute(values)}


def _checked(entries: Mapping[str, Node]) -> dict[str, Any]:
    values = {name: OPTIONS[name].of_node(node) for name, node in entries.items() if name in OPTIONS}
    return {**values, **({"budget": read_budget(entries["budget"])} if "budget" in entries else {})}


def _of_recipe(name: str) -> dict[str, Any]:
    entries = read_node(find("recipes", name), error=UsageError).mapping(required=["name"], optional=("about", *KEYS))
    return _checked({key: node for key, node in entries.items() if key not in ("name", "about")})


def _absolute(values: Mapping[str, Any]) -> dict[str, str]:
    """Whole paths of the files that are named, so that a run goes on from any folder."""
    from medsearch.data.load import is_embedded

    paths = {name: values[name] for name in ("data", "space", "profile") if isinstance(values.get(name), str)}
    if not paths.get("space", "").endswith((".yaml", ".yml")):
        paths.pop("space", None)
    if is_embedded(paths.get("data", "")):
        paths.pop("data", None)
    return {name: os.path.abspath(path) for name, path in paths.items() if Path(path).exists()}
