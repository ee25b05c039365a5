"""Optuna's samplers as strategies: the history is replayed into a study in memory, which is asked for one proposal.

Replaying costs milliseconds and makes a proposal a pure function of (space, history, seed), so that an interrupted
search goes on exactly as it would have.  Early-stopped trials count with the error they had reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from medsearch.search.strategy import STRATEGIES, Trial
from medsearch.spaces import Genotype, Space


def _ask(
    sampler: optuna.samplers.BaseSampler,
    space: Space,
    history: Sequence[Trial],
    note: Callable[[int], dict[str, int]] = lambda index: {},
) -> Genotype:
    """One proposal of ``sampler``; ``note`` gives what it would have noted itself with the trial at an index."""
    study = optuna.create_study(directions=["minimize"] * 3, sampler=sampler)
    options = space.genes()
    known = [(trial.genes, trial.objectives) for trial in history if trial.objectives is not None]
    for index, (genes, objectives) in enumerate(known):
        choices: dict[str, BaseDistribution] = {gene: CategoricalDistribution(tuple(options[gene])) for gene in genes}
        study.add_trial(
            optuna.create_trial(values=list(objectives), params=genes, distributions=choices, system_attrs=note(index))
        )
    asked = study.ask()
    return space.express(lambda gene, labels: asked.suggest_categorical(gene, labels))


@STRATEGIES.add("tpe")
@dataclass(frozen=True, kw_only=True)
class TreeParzen:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al. 2022, doi:10.1613/jair.1.13188), by Optuna.

    Args:
        startup: trials drawn at random before the estimator takes over; the initial_designs of the search count.
    """

    startup: int = 10

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        return _ask(optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup), space, history)


@STRATEGIES.add("nsga2")
@dataclass(frozen=True, kw_only=True)
class NonDominatedSorting:
    """NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017), by Optuna.

    Args:
        population: parents of a generation.
    """

    population: int = 16

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=self.population)
        key = sampler._get_generation_key()
        return _ask(sampler, space, history, lambda index: {key: index // self.population})
