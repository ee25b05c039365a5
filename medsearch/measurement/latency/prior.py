"""What parts take that were never timed: a yardstick's time, and rates that a real profile of some device has shown.

A part takes so much to begin, so much for every number of its input maps, and so much for every multiply-add; how much
depends on what kind of part it is.  Rates are in runs of the reference workload
(:func:`~medsearch.measurement.latency.parts.reference`), whose time is all that has to be measured on another machine.
They are fitted by ``python -m medsearch.studies.prior`` and travel in the package, a file for each deployment target
and instruction set; their doubt is what profiles show of parts that the fit has not seen.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from medsearch.measurement.latency.residual import ResidualModel
from medsearch.measurement.latency.table import PartKey

FOLDER = "priors"
FORMAT = 1
ELSEWHERE = 0.4
"""Doubt that is added, in the logarithm, where the rates are those of other instructions."""
_BRANCH = re.compile(r"Residual\w*\((?=\w)")
_FIRST = re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Runs of the reference workload that a part takes.

    Args:
        entry: to begin.
        number: for every number of its input maps.
        work: for every multiply-add, and every number that comes in or goes out.
        doubt: half width of the interval, in the logarithm.
    """

    entry: float
    number: float
    work: float
    doubt: float

    def of(self, place: PartKey) -> float:
        """Runs of the reference workload that the part at ``place`` takes."""
        return self.entry + self.number * numbers(place) + self.work * place.work


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Rates of parts, by the class that does the work, and by kind for classes that no profile has seen.

    Args:
        parts: by the name of the class and the dimensions of its maps, as ``"Mlp 2D"``.
        kinds: by :data:`~medsearch.measurement.model.KINDS` and the dimensions, as ``"mlp 2D"``.
        overhead: runs of the reference workload that entering the runtime takes.
        whole: from sums over parts to whole networks.
        elsewhere: doubt in the logarithm that is added to all.
    """

    parts: dict[str, Rates]
    kinds: dict[str, Rates]
    overhead: float
    whole: ResidualModel
    elsewhere: float = 0.0

    def of(self, place: PartKey, kind: str) -> tuple[float, float]:
        """Runs of the reference workload that a part takes, and the doubt of that in the logarithm."""
        suffix = f" {dims(place)}D"
        rates = self.parts.get(worker(place) + suffix) or self.kinds[kind + suffix]
        return rates.of(place), rates.doubt + self.elsewhere


def worker(place: PartKey) -> str:
    """The name of the class that does the work of a part: of a residual branch, what is in it."""
    found = _FIRST.match(_BRANCH.sub("", place.group))
    return found[0] if found else ""


def numbers(place: PartKey) -> int:
    """How many numbers the input maps of a part hold."""
    return sum(map(math.prod, _shapes(place)))


def dims(place: PartKey) -> int:
    """Of the maps of a part, spatial ones."""
    return len(_shapes(place)[0]) - 1


def _shapes(place: PartKey) -> list[list[int]]:
    return [[int(side) for side in shape.split("x")] for shape in place.key.rpartition(" @ ")[2].split()]


@cache
def shipped(target: str, instructions: str) -> Prior | None:
    """The rates that travel in the package for a deployment target; None where there are none.

    Args:
        target: by name.
        instructions: that the processor has, as ``torch.backends.cpu.get_cpu_capability()`` says; without a file of
            their own the first by name of the target's serves, with more doubt.
    """
    folder = files("medsearch.measurement.latency") / FOLDER
    known = {entry.name: entry for entry in folder.iterdir() if entry.name.startswith(f"{target}.")}
    if not known:
        return None
    own = f"{target}.{instructions.lower()}.json"
    chosen = known.get(own) or known[min(known)]
    return read_prior(json.loads(chosen.read_text()), elsewhere=0.0 if own in known else ELSEWHERE)


def read_prior(data: dict[str, Any], *, elsewhere: float = 0.0) -> Prior:
    """Rates from plain data, as ``python -m medsearch.studies.prior`` writes them."""
    assert data["format"] == FORMAT, "the files that travel in the package are of its own version"
    return Prior(
        parts={name: Rates(**rates) for name, rates in data["parts"].items()},
        kinds={name: Rates(**rates) for name, rates in data["kinds"].items()},
        overhead=data["overhead"],
        whole=ResidualModel(constant=data["whole"]["constant"], spread=data["whole"]["spread"]),
        elsewhere=elsewhere,
    )
