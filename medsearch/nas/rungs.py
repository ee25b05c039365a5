"""Who goes on: asynchronous successive halving with several objectives.

Every trial is trained to the first rung; of those that reached a rung, one in ``reduction`` goes on to the next one, as
soon as enough have (ASHA, Li et al. 2020, arXiv:1810.05934).  With several objectives a place goes by turns
to the least error, and to what stands out on the Pareto front: non-dominated rank, then crowding distance (MO-ASHA,
Schmucker et al. 2021, arXiv:2106.12639; NSGA-II, Deb et al. 2002, doi:10.1109/4235.996017).  It differs in these turns,
because of a dozen networks with three objectives nearly all are on the front, and crowding alone would send on the
smallest rather than the best.  That every trial keeps the limits is settled before it begins.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from medsearch.nas.front import beats
from medsearch.nas.strategy import Trial

REDUCTION = 3
"""One in so many goes on."""


def goes_on(
    trials: Sequence[Trial], *, rungs: int, busy: Collection[int] = (), reduction: int = REDUCTION
) -> Trial | None:
    """The trial that goes on to its next rung, from the highest rung that has one; None while none has earned it.

    Args:
        trials: all of a search; :attr:`Trial.curve` has one error for every rung reached.
        rungs: how many there are.
        busy: numbers of trials that are on their way to a rung.
        reduction: one in so many goes on.
    """
    for rung in range(rungs - 1, 0, -1):
        here = [trial for trial in trials if len(trial.curve) >= rung]
        for trial in in_order(here, rung)[: len(here) // reduction]:
            if len(trial.curve) == rung and trial.number not in busy:
                return trial
    return None


def in_order(trials: Sequence[Trial], rung: int) -> list[Trial]:
    """Trials that reached ``rung``, counted from 1; the one that most deserves to go on comes first."""
    points = {trial.number: (trial.curve[rung - 1], *_costs(trial)) for trial in trials}
    by_error = sorted(points, key=lambda number: (points[number], number))
    standing_out = [number for layer in _layers(points) for number in _by_crowding(layer)]
    turns = dict.fromkeys(number for pair in zip(by_error, standing_out, strict=True) for number in pair)
    known = {trial.number: trial for trial in trials}
    return [known[number] for number in turns]


Points = dict[int, tuple[float, ...]]


def _costs(trial: Trial) -> tuple[float, ...]:
    assert trial.objectives is not None
    return trial.objectives[1:]


def _layers(points: Points) -> Iterator[Points]:
    """Points by non-dominated rank: the front, the front of what is left without it, and so on."""
    left = dict(points)
    while left:
        layer = {number: point for number, point in left.items() if not any(beats(q, point) for q in left.values())}
        yield layer
        left = {number: point for number, point in left.items() if number not in layer}


def _by_crowding(layer: Points) -> list[int]:
    """Numbers by falling crowding distance; what is best in any objective comes first."""
    distance = dict.fromkeys(layer, 0.0)
    for axis in range(len(next(iter(layer.values())))):
        order = sorted(layer, key=lambda number: (layer[number][axis], number))  # noqa: B023
        extent = layer[order[-1]][axis] - layer[order[0]][axis]
        distance[order[0]] = distance[order[-1]] = math.inf
        for before, number, after in zip(order, order[1:], order[2:], strict=False):
            distance[number] += (layer[after][axis] - layer[before][axis]) / extent if extent else 0.0
    return sorted(distance, key=lambda number: (-distance[number], number))
