"""Latency of network parts on one device: what was timed, and what follows from it for parts of other widths.

Parts of one *group* do the same on maps of the same size and differ in widths and knobs; parts of one *variant* of a
group differ in widths alone, and in none that matters to the vector units: a filter over 24 channels can take four
times as long as one over 32.  The time of a variant is a power of its multiply-adds between two that were timed, and
the variants of a group share the power, so that few need more than one timing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from medsearch.backbones import Call

Shape = tuple[int, ...]

STRETCH = 1.5
"""How far beyond what was timed multiply-adds may lie, as a factor, for a time to follow."""
LANES = 16
"""Numbers that a vector unit takes at once: convolutions of other multiples of channels go another, slower way."""
POWERS = (0.2, 1.5)
"""Smallest and largest power of the multiply-adds that is believed."""


@dataclass(frozen=True, kw_only=True)
class PartKey:
    """A part as the table sees it.

    Args:
        key: the part and its input shapes, in full.
        group: the kinds of its modules and the sizes of its maps.
        variant: the group, and the knobs.
        work: multiply-adds, plus one for every number of its input and output maps.
    """

    key: str
    group: str
    variant: str
    work: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What was timed: the key of a part and its milliseconds."""

    part_key: PartKey
    ms: float


def part_key(call: Call, shapes: Iterable[Shape], *, macs: int, outputs: int, lanes: int = LANES) -> PartKey:
    """Where ``call`` on maps of these shapes (C, *S) stands.

    Args:
        call: of the part.
        shapes: of its inputs.
        macs: its multiply-adds.
        outputs: how many numbers its output has.
        lanes: largest power of two, up to :data:`LANES`, that divides the channels of all its convolutions.
    """
    shapes = list(shapes)
    sizes = " ".join("x".join(map(str, shape[1:])) for shape in shapes)
    key = f"{' '.join(call.source().split())} @ {' '.join('x'.join(map(str, shape)) for shape in shapes)}"
    work = macs + outputs + sum(math.prod(shape) for shape in shapes)
    variant = f"{_kinds(call, knobs=True)} @ {sizes} / {lanes}"
    return PartKey(key=key, group=f"{_kinds(call)} @ {sizes}", variant=variant, work=float(work))


def _kinds(call: Call, *, knobs: bool = False) -> str:
    values = [*call.args, *(value for _, value in call.kwargs)]
    inner = [_kinds(value, knobs=knobs) for value in values if isinstance(value, Call)]
    inner += [f"{key}={value}" for key, value in call.kwargs if knobs and not isinstance(value, list | tuple | Call)]
    return f"{call.target.__name__}({', '.join(inner)})"


class Table:
    """Timings, and what follows from them.

    Args:
        timings: what is known already.
    """

    def __init__(self, timings: Iterable[Timing] = ()) -> None:
        self.timings: dict[str, Timing] = {}
        self._variants: dict[str, list[Timing]] = defaultdict(list)
        self._groups: dict[str, set[str]] = defaultdict(set)
        for timing in timings:
            self.add(timing)

    def add(self, timing: Timing) -> None:
        """Take a timing in; a second one of the same part replaces the first."""
        place = timing.part_key
        others = [known for known in self._variants[place.variant] if known.part_key.key != place.key]
        self.timings[place.key] = timing
        self._variants[place.variant] = sorted([*others, timing], key=lambda known: known.part_key.work)
        self._groups[place.group].add(place.variant)

    def copy(self) -> Table:
        """A table of the same timings."""
        return Table(self.timings.values())

    def find(self, place: PartKey) -> float | None:
        """Milliseconds at ``place``: as timed, or as follows from its variant and group; None if it must be timed."""
        if place.key in self.timings:
            return self.timings[place.key].ms
        known = self._variants.get(place.variant, [])
        if len(known) == 1:
            return self._by_group(place, known[0])
        if not known or not known[0].part_key.work / STRETCH <= place.work <= known[-1].part_key.work * STRETCH:
            return None
        at = next((i for i, timing in enumerate(known) if timing.part_key.work >= place.work), len(known) - 1)
        low, high = known[max(at, 1) - 1], known[max(at, 1)]
        return _scaled(low, place.work, _power(low, high))

    def _by_group(self, place: PartKey, known: Timing) -> float | None:
        """From the one timing of the variant, by the power that the other variants of its group show."""
        powers = [
            _power(others[0], others[-1])
            for variant in sorted(self._groups[place.group])
            if len(others := self._variants[variant]) > 1
        ]
        return _scaled(known, place.work, sum(powers) / len(powers)) if powers else None


def _power(low: Timing, high: Timing) -> float:
    rise = math.log(high.part_key.work / low.part_key.work)
    power = math.log(max(high.ms, 1e-6) / max(low.ms, 1e-6)) / rise if rise > 1e-3 else 1.0
    return min(max(power, POWERS[0]), POWERS[1])


def _scaled(timing: Timing, work: float, power: float) -> float:
    return timing.ms * (work / timing.part_key.work) ** power


def to_data(table: Table) -> list[dict[str, Any]]:
    """Plain data for JSON, a row for every timing."""
    return [{**vars(timing.part_key), "ms": timing.ms} for timing in table.timings.values()]


def from_data(rows: Any) -> Table:
    """Inverse of :func:`to_data`.

    Raises:
        ValueError: for anything that is not such rows.
    """
    wanted = {"key": str, "group": str, "variant": str, "work": float, "ms": float}
    if not isinstance(rows, list):
        raise ValueError(f"expected a list of timings, got {type(rows).__name__}")
    for row in rows:
        fits = isinstance(row, dict) and set(row) == set(wanted)
        if not fits or not all(isinstance(row[key], kind) for key, kind in wanted.items()):
            raise ValueError(f"expected a timing with {', '.join(wanted)}, got {row!r}")
        if not (0 < row["work"] < math.inf and 0 <= row["ms"] < math.inf):
            raise ValueError(f"expected finite work and time, got {row!r}")
    return Table(
        Timing(part_key=PartKey(**{key: row[key] for key in ("key", "group", "variant", "work")}), ms=row["ms"])
        for row in rows
    )
