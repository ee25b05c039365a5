"""What a strategy is: from the history of a search to the next proposal, with no memory and no I/O of its own.

Its knobs are the keyword arguments of its class that have a default.  They are given with its name, as text
(``tpe:startup_trials=20,multivariate=true``) or as a mapping (``{name: tpe, startup_trials: 20}``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from medsearch.core.config import Node
from medsearch.core.errors import UsageError
from medsearch.core.registry import Registry
from medsearch.spaces import Genes, Genotype, Space

STRATEGIES = Registry("search strategy", "medsearch.nas.strategies")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One genotype that was tried.

    Args:
        number: in the order of the search, from 0.
        genes: of the genotype.
        genotype: what was tried.
        objectives: the error, then the costs to be small, in their units; None while running or if it failed.
        metrics: of the task, on the validation split.
        curve: error at each rung that it has reached; the last one is that among the objectives.
        state: ``running``, ``complete`` (trained to the first rung, and perhaps further) or ``failed``.
        facts: costs and whatever else was noted, plain data.
    """

    number: int
    genes: Genes
    genotype: Genotype
    objectives: tuple[float, ...] | None
    metrics: dict[str, float]
    curve: tuple[float, ...]
    state: str
    facts: dict[str, Any]


class Strategy(Protocol):
    """Proposes the next genotype; the same space, history and seed give the same proposal."""

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype: ...


def read_strategy(given: str | Mapping[str, Any], *, where: str) -> Strategy:
    """The strategy of a text ``name`` or ``name:knob=value,knob=value``, or of a mapping ``{name: ..., knob: ...}``.

    Args:
        given: the text or mapping; a knob that it does not name has its default.
        where: it was written, for messages.

    Raises:
        UsageError: for a strategy or knob that there is not, or a value that the knob cannot have.
    """
    asked = Node(_split(given, where) if isinstance(given, str) else given, where, error=UsageError)
    name = asked.mapping(required=["name"], optional=asked.entries())["name"].text()
    kind, known = STRATEGIES.find(name, where=where, error=UsageError), STRATEGIES.knobs(name)
    values = {knob: entry.value for knob, entry in asked.entries().items() if knob != "name"}
    knobs = Node(values, f"{where}: {name}", error=UsageError).mapping(optional=known)
    try:
        return kind(**{knob: _like(known[knob], value) for knob, value in knobs.items()})
    except ValueError as problem:
        raise UsageError(where, f"{problem}.") from problem


def in_range(strategy: str, knob: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a knob outside of ``low`` to ``high``, both included, by a ValueError that names strategy and knob."""
    if not low <= value <= high:
        legal = f"at least {low}" if math.isinf(high) else f"from {low} to {high}"
        raise ValueError(f"{strategy}: {knob} must be {legal}, got {value}")


def _split(text: str, where: str) -> dict[str, Any]:
    """``name:knob=value,knob=value`` as a mapping."""
    name, colon, rest = text.partition(":")
    found: dict[str, Any] = {"name": name}
    for pair in rest.split(",") if colon else ():
        knob, equals, value = (piece.strip() for piece in pair.partition("="))
        if not knob or not equals:
            raise UsageError(where, f"expected knob=value after '{name}:', got '{pair}'.", f"Write {name}:knob=value.")
        if knob in found:
            raise UsageError(where, f"'{knob}' is there twice.", "Remove one of them.")
        found[knob] = _scalar(value)
    return found


def _scalar(text: str) -> bool | int | float | str:
    """A value as YAML would read it: ``true`` or ``false``, a number, else the text."""
    if text in ("true", "false"):
        return text == "true"
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return text


def _like(default: Any, value: Node) -> Any:
    """The value, refused unless it is of the kind of the knob's default."""
    match default:
        case bool():
            return value.boolean()
        case int():
            return value.integer()
        case float():
            return value.number()
        case str():
            return value.text()
    return value.value
