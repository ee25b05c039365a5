"""What is measured, in which order: the recipe of the benchmark, read and checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from medsearch.core.config import Node, read_node
from medsearch.core.errors import UsageError, suggest
from medsearch.data.load import is_embedded

SEARCH = "search"
HAND_MADE = {"classification": "convnet", "segmentation": "unet"}
"""The network that a search is compared with, by task."""
ARMS = (SEARCH, *HAND_MADE.values(), "random", "resnet18")
TRAININGS = ("ours", "onecycle")
"""By what a network is trained that no search has found; each is a row."""
PROFILES = ("fresh", "kept")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a row is of.

    Args:
        arm: the search, or the network that is trained instead.
        recipe: how that is trained; empty for the search, which has its own.
        data: name of the set.
        seed: of everything random.
        minutes: that the search or the training may take.
        workers: trainings at once, each with a core of its own; more than one for a search only.
    """

    arm: str
    recipe: str
    data: str
    seed: int
    minutes: float
    workers: int = 1

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """What a row says that it is of."""
        return cls(**{name: row[name] for name in cls.__dataclass_fields__})

    def to_data(self) -> dict[str, Any]:
        """Plain data, the first fields of a row."""
        return asdict(self)

    @property
    def label(self) -> str:
        """What a table calls the arm."""
        return self.arm if self.workers == 1 else f"{self.arm}, {self.workers} workers"

    @property
    def name(self) -> str:
        """A text that no other case has, fit for the name of a folder."""
        workers = "" if self.workers == 1 else f"-{self.workers}-workers"
        return (
            "-".join(filter(None, (self.data, f"{self.minutes:g}m", f"{self.seed}", self.arm, self.recipe))) + workers
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe of this benchmark.

    Args:
        sets: file or embedded name of every data set, by the name that rows have for it.
        cases: in the order in which they are measured.
        profile: ``"fresh"`` if every search measures the machine anew, within its time; ``"kept"`` if it finds what
            earlier ones measured in the user's cache.
        search_options: more options of ``medsearch search``.
    """

    sets: Mapping[str, str]
    cases: tuple[Case, ...]
    profile: str
    search_options: tuple[str, ...] = ()

    def source(self, data: str, folder: Path) -> str:
        """What ``--data`` is for the set called ``data``, where files lie below ``folder``."""
        written = self.sets[data]
        return written if is_embedded(written) else str(folder / written)


def read_plan(path: Path) -> Plan:
    """A recipe, checked.

    Raises:
        UsageError: where it says something unknown, or the same row twice.
    """
    root = read_node(path, error=UsageError).mapping(
        required=("name", "sets", "entries"), optional=("about", "profile", "search_options")
    )
    sets = {name: node.text() for name, node in root["sets"].entries().items()}
    cases: dict[Case, None] = {}
    for node in root["entries"].items():
        for case in _cases(node, sets):
            if case in cases:
                raise node.wrong(f"{case.name} is given before.", "Every row is measured once.")
            cases[case] = None
    return Plan(
        sets=sets,
        cases=tuple(cases),
        profile=root["profile"].choice(PROFILES) if "profile" in root else PROFILES[0],
        search_options=tuple(node.text() for node in root["search_options"].items())
        if "search_options" in root
        else (),
    )


def _cases(node: Node, sets: Collection[str]) -> Iterator[Case]:
    """The rows of an entry: all of a seed before the next, all of a set before the next."""
    found = node.mapping(required=("data", "minutes", "seeds", "arms"), optional=("workers",))
    arms = [arm.choice(ARMS) for arm in found["arms"].items()]
    minutes, workers = found["minutes"].number(low=0.001), 1
    if "workers" in found:
        workers = found["workers"].integer(low=1)
        if workers > 1 and arms != [SEARCH]:
            raise found["workers"].wrong("only a search has workers.", f"Give arms: [{SEARCH}] an entry of its own.")
    for data in found["data"].items():
        if data.text() not in sets:
            raise data.wrong(f"unknown set '{data.value}'.", suggest(data.value, sets))
    for seed in found["seeds"].items():
        for data in found["data"].items():
            for arm in arms:
                for recipe in ("",) if arm == SEARCH else TRAININGS:
                    yield Case(
                        arm=arm,
                        recipe=recipe,
                        data=data.text(),
                        seed=seed.integer(low=0),
                        minutes=minutes,
                        workers=workers,
                    )
