"""Regularised multi-objective evolution: parents from the front of the recent past, one mutation or a crossover.

Source: ageing as in regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1).  What differs: a parent
wins its tournament by non-domination among the drawn, ties by error, and half of the children come from two parents.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from medsearch.search.front import dominates
from medsearch.search.strategy import STRATEGIES, Trial
from medsearch.spaces import Genotype, Space


@STRATEGIES.add("evolution")
@dataclass(frozen=True, kw_only=True)
class Evolution:
    """Mutate and cross what did well lately.

    Args:
        age: how many of the latest trials may become parents.
        tournament: how many of them are drawn for each parent.
        startup: trials drawn at random before the first child.
    """

    age: int = 40
    tournament: int = 5
    startup: int = 6

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        rng = random.Random(seed)
        living = [trial for trial in history if trial.objectives is not None][-self.age :]
        if len(living) < self.startup:
            return space.sample(rng)
        child = self._parent(living, rng)
        if rng.random() < 0.5:
            child = space.crossover(child, self._parent(living, rng), rng)
        return space.mutate(child, rng)

    def _parent(self, living: Sequence[Trial], rng: random.Random) -> Genotype:
        drawn = rng.sample(list(living), min(self.tournament, len(living)))
        free = [one for one in drawn if not any(dominates(other, one) for other in drawn)]
        return min(free, key=_error).genotype


def _error(trial: Trial) -> float:
    assert trial.objectives is not None
    return trial.objectives[0]
