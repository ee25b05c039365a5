"""What children died of, remembered: in the run, and for faults of libraries beside the device's profile too.

A fault comes again wherever the same processor runs the same library, so it is not asked for twice.  A kill from
outside or a lack of time may pass; it counts for the run that it happened in.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from medsearch.core.children import ChildDied


@dataclass(frozen=True, kw_only=True)
class Death:
    """One death of a child.

    Args:
        what: operator, part or genotype that was at work.
        doing: what the child was asked to do with it.
        how: signal, exit code, or that there was no answer in time.
        place: the innermost line of Python it was in, where known.
        precision: ``"fp32"`` or ``"bf16"``; empty where it plays no part or is said by ``what``.
        machine: processor, instructions and library that it happened with, in a line.
    """

    what: str
    doing: str
    how: str
    place: str
    precision: str
    machine: str

    def __str__(self) -> str:
        precision = f" in {self.precision}" if self.precision else ""
        at = f", at {self.place}" if self.place else ""
        return f"{self.doing}: {self.what}{precision} ended its process: {self.how}{at}"


class Deaths:
    """The deaths that count on a machine.

    Args:
        machine: processor, instructions and library in a line; deaths of others are not read.
        run: file of the run, which keeps all; None keeps none.
        cache: file beside the profile, which keeps faults; None keeps none.
    """

    def __init__(self, machine: str, *, run: Path | None = None, cache: Path | None = None) -> None:
        self.machine, self._run, self._cache = machine, run, cache
        self.of_run: list[Death] = [death for death in _read(run) if death.machine == machine]
        known = [death for death in _read(cache) if death.machine == machine]
        self._known: dict[tuple[str, str], list[Death]] = defaultdict(list)
        for death in (Counter(known) | Counter(self.of_run)).elements():  # a fault of this run stands in both files
            self._known[death.what, death.precision].append(death)

    def record(self, death: ChildDied, what: str, *, precision: str = "") -> Death:
        """Remember that ``what`` ended a child; a file that cannot be written keeps nothing from going on."""
        found = Death(
            what=what,
            doing=death.doing,
            how=death.how,
            place=death.place,
            precision=precision,
            machine=self.machine,
        )
        self.of_run.append(found)
        self._known[what, precision].append(found)
        for file in (self._run, self._cache if death.fault else None):
            with suppress(OSError):
                _append(file, found)
        return found

    def of(self, what: str, *, precision: str = "") -> Death | None:
        """How ``what`` ended a child, if it ever did."""
        return next(iter(self._known.get((what, precision), [])), None)

    def times(self, what: str, *, precision: str = "") -> int:
        """How often it did."""
        return len(self._known.get((what, precision), []))


def _append(file: Path | None, death: Death) -> None:
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(death), sort_keys=True) + "\n")


def _read(file: Path | None) -> list[Death]:
    """The deaths in a file of one line each; a line that a kill left half written is passed over."""
    found = []
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file else ():
            with suppress(ValueError, TypeError):
                death = Death(**json.loads(line))
                if all(isinstance(value, str) for value in asdict(death).values()):
                    found.append(death)
    return found
