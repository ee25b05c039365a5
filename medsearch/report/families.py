"""How far each family of mixers got in a search, and why a family is missing among the delivered networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medsearch.report import networks
from medsearch.report.mixers import KINDS, kinds, short, stages_of
from medsearch.report.networks import Data, or_last, text

GROUPS = (*(f"{kind} only" for kind in KINDS), "several families", *(f"with {kind}" for kind in KINDS))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A group of trials that ended well: how many, the best of them, and how many came through.

    Args:
        trials: how many there are.
        best: the one with the smallest error; None if there is none.
        error: that error.
        on_front: how many are on the front of the search.
        delivered: how many delivered networks belong to the group.
    """

    trials: int
    best: Data | None
    error: float | None
    on_front: int
    delivered: int


def groups_of(network: Data, results: Data) -> list[str]:
    """Which of :data:`GROUPS` a network belongs to: one of the first, and one for each of its families."""
    seen = kinds(stages_of(network), results.get("families") or {})
    alone = [f"{kind} only" for kind in seen] if len(seen) < 2 else ["several families"]
    return alone + [f"with {kind}" for kind in seen]


def standing(group: str, results: Data) -> Standing:
    """How the trials of one group did; those that failed say nothing."""
    complete = [trial for trial in results.get("trials") or [] if trial.get("state") == "complete"]
    mine = [trial for trial in complete if group in groups_of(trial, results)]
    best = min(mine, key=lambda trial: or_last(networks.error(trial)), default=None)
    return Standing(
        trials=len(mine),
        best=best,
        error=None if best is None else networks.error(best),
        on_front=sum(bool(trial.get("front")) for trial in mine),
        delivered=sum(group in groups_of(network, results) for network in networks.delivered(results)),
    )


def why_one_family(results: Data) -> Iterator[str]:
    """If the delivered networks share a single family: how far the trials with each other family got."""
    groups = {group for network in networks.delivered(results) for group in groups_of(network, results)}
    present = [kind for kind in KINDS if f"with {kind}" in groups]
    if len(present) != 1:
        return
    only, costs = present[0], networks.objectives(results)[:1]
    own = standing(f"{only} only", results)
    yield f"Every delivered network is built from {only} mixers alone: {_said(own, costs)}."
    for kind in KINDS:
        other = standing(f"with {kind}", results)
        if kind != only and (other.trials or kind != "other"):
            yield _compared(kind, other, only, own, costs)


def _compared(kind: str, other: Standing, only: str, own: Standing, costs: Sequence[str]) -> str:
    if other.best is None:
        return f"No trial with {kind} ended well, so this search says nothing about {kind}."
    said = f"With {kind}: {_said(other, costs)}."
    if own.error is not None and other.error is not None:
        gap = other.error - own.error
        said += f" That is {abs(gap):.4f} {'worse' if gap > 0 else 'better'} than the best with {only} alone."
    if not other.on_front:
        return said + " None was on the front of the search."
    return said + f" {other.on_front} on the front of the search, none among the delivered."


def _said(group: Standing, costs: Sequence[str]) -> str:
    """The best of a group, with these of its costs."""
    if group.best is None:
        return "no such trial ended well"
    trials = f"{group.trials} trial{'' if group.trials == 1 else 's'}"
    said = ", ".join([short(stages_of(group.best)), *(networks.cost_text(group.best, name) for name in costs)])
    return f"best error {text(group.error, '{:.4f}'.format)} of {trials} ({said})"
