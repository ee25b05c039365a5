"""Regularised multi-objective evolution: parents from the front of the recent past, one mutation or a crossover.

Source: ageing as in regularised evolution (Real et al. 2019, arXiv:1802.01548, algorithm 1).  What differs: a parent
wins its sample by non-domination, ties by error, and ``crossover`` of the children come from two parents.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from medsearch.nas.front import dominates
from medsearch.nas.strategy import STRATEGIES, Trial, in_range
from medsearch.spaces import Genotype, Space


@STRATEGIES.add("evolution")
@dataclass(frozen=True, kw_only=True)
class Evolution:
    """Mutate and cross what did well lately.

    Args:
        population: how many of the latest trials may become parents.
        sample_size: how many of these are drawn for each parent.
        startup_trials: trials before the first child; after the initial designs, drawn at random.
        crossover: probability that a child has two parents, from 0 to 1.
    """

    population: int = 40
    sample_size: int = 5
    startup_trials: int = 6
    crossover: float = 0.5

    def __post_init__(self) -> None:
        in_range("evolution", "population", self.population, 1)
        in_range("evolution", "sample_size", self.sample_size, 1)
        in_range("evolution", "startup_trials", self.startup_trials, 1)
        in_range("evolution", "crossover", self.crossover, 0, 1)

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        rng = random.Random(seed)
        living = [trial for trial in history if trial.objectives is not None][-self.population :]
        if len(living) < self.startup_trials:
            return space.sample(rng)
        child = self._parent(living, rng)
        if rng.random() < self.crossover:
            child = space.crossover(child, self._parent(living, rng), rng)
        return space.mutate(child, rng)

    def _parent(self, living: Sequence[Trial], rng: random.Random) -> Genotype:
        drawn = rng.sample(list(living), min(self.sample_size, len(living)))
        free = [one for one in drawn if not any(dominates(other, one) for other in drawn)]
        return min(free, key=_error).genotype


def _error(trial: Trial) -> float:
    assert trial.objectives is not None
    return trial.objectives[0]
