"""What is known of an architecture that a space stands for: the numbers to check it by, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medsearch.core.errors import BudgetError, SpaceError, suggest
from medsearch.core.units import parse_count

STATUS = ("exact", "exact but", "approximation")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published network and its numbers.

    Args:
        source: paper or repository.
        status: ``"exact"``; ``"exact but"`` for what ``differs`` says; ``"approximation"``: no number is claimed.
        differs: what is not as published.
        task, channels, outputs, size: the network that the numbers are of.
        parameters: the published count; None where none is known or claimed.
        without: what the published network has beyond this one, each with its number of parameters.
        macs: the published multiply-adds at batch 1; None where none is known or claimed.
    """

    source: str
    status: str
    size: tuple[int, ...]
    differs: str = ""
    task: str = "classification"
    channels: int = 3
    outputs: int = 1000
    parameters: int | None = None
    without: Mapping[str, int] = field(default_factory=dict)
    macs: float | None = None

    @property
    def expected(self) -> int | None:
        """The parameters that this network must have: the published ones without what it leaves out."""
        return None if self.parameters is None else self.parameters - sum(self.without.values())


def read_published(data: Any, where: str, dims: int) -> Published:
    """Check what a space file says under ``published``.

    Raises:
        SpaceError: naming the key and what it should be.
    """
    if not isinstance(data, dict):
        raise SpaceError(where, f"expected named values, got {data!r}.")
    known = set(Published.__dataclass_fields__)
    for key in sorted(set(map(str, data)) - known):
        raise SpaceError(where, f"unknown key '{key}'.", suggest(key, known))
    for key in sorted({"source", "status", "size"} - set(data)):
        raise SpaceError(where, f"'{key}' is missing.")
    if data["status"] not in STATUS:
        raise SpaceError(f"{where}.status", f"expected one of {', '.join(STATUS)}, got {data['status']!r}.")
    if data["status"] != "exact" and not data.get("differs"):
        raise SpaceError(f"{where}.differs", "is missing.", "Say what is not as published.")
    size, without = data["size"], data.get("without", {})
    if not isinstance(size, list) or len(size) != dims or not all(_is_count(length) for length in size):
        raise SpaceError(f"{where}.size", f"expected {dims} whole numbers, got {size!r}.")
    if not isinstance(without, dict) or not all(map(_is_count, without.values())):
        raise SpaceError(f"{where}.without", f"expected numbers of parameters by name, got {without!r}.")
    for key in {"channels", "outputs", "parameters"} & set(data):
        if not _is_count(data[key]):
            raise SpaceError(f"{where}.{key}", f"expected a whole number, at least 1, got {data[key]!r}.")
    return Published(**{**data, **_macs(data, where), "size": tuple(size), "without": dict(without)})


def _macs(data: dict[str, Any], where: str) -> dict[str, int]:
    if "macs" not in data:
        return {}
    try:
        return {"macs": parse_count(str(data["macs"]), where=f"{where}.macs")}
    except BudgetError as problem:
        raise SpaceError(problem.where, problem.problem, problem.remedy) from problem


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1
