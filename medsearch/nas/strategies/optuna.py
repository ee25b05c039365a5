"""Optuna's samplers as strategies: the history is replayed into a study in memory, which is asked for one proposal.

Replaying costs milliseconds and makes a proposal a pure function of (space, history, seed), so that an interrupted
search goes on exactly as it would have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna

from medsearch.nas.distributions import place, sampled, suggest
from medsearch.nas.quiet import quiet
from medsearch.nas.strategy import STRATEGIES, Trial, in_range
from medsearch.spaces import Genotype, Space


def _ask(
    sampler: optuna.samplers.BaseSampler,
    space: Space,
    history: Sequence[Trial],
    note: Callable[[int], dict[str, int]] = lambda index: {},
) -> Genotype:
    """One proposal of ``sampler``; ``note`` gives what it would have noted itself with the trial at an index."""
    options = space.genes()
    known = [(trial.genes, trial.objectives) for trial in history if trial.objectives is not None]
    count = len(known[0][1]) if known else 2  # whatever it is, nothing is learned from no trial
    with quiet():
        study = optuna.create_study(directions=["minimize"] * count, sampler=sampler)
    for index, (genes, objectives) in enumerate(known):
        study.add_trial(
            optuna.create_trial(
                values=list(objectives),
                params={gene: place(option, options[gene]) for gene, option in genes.items()},
                distributions={gene: sampled(options[gene]) for gene in genes},
                system_attrs=note(index),
            )
        )
    asked = study.ask()
    return space.express(lambda gene, labels: suggest(asked, gene, labels))


@STRATEGIES.add("tpe")
@dataclass(frozen=True, kw_only=True)
class TreeParzen:
    """Multi-objective tree-structured Parzen estimator (Ozaki et al. 2022, doi:10.1613/jair.1.13188), by Optuna.

    Args:
        startup_trials: trials before the estimator takes over; after the initial designs, drawn at random.
        candidates: values drawn from the density of good ones for each gene; the most promising is proposed.
        multivariate: whether the genes that all networks have are drawn together rather than one by one.
    """

    startup_trials: int = 10
    candidates: int = 24
    multivariate: bool = False

    def __post_init__(self) -> None:
        in_range("tpe", "startup_trials", self.startup_trials, 1)
        in_range("tpe", "candidates", self.candidates, 1)

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        sampler = optuna.samplers.TPESampler(
            seed=seed,
            n_startup_trials=self.startup_trials,
            n_ei_candidates=self.candidates,
            multivariate=self.multivariate,
        )
        return _ask(sampler, space, history)


@STRATEGIES.add("nsga2")
@dataclass(frozen=True, kw_only=True)
class NonDominatedSorting:
    """NSGA-II (Deb et al. 2002, doi:10.1109/4235.996017), by Optuna.

    Args:
        population: parents of a generation, at least 2.
        crossover: probability that a child has two parents, from 0 to 1.
    """

    population: int = 16
    crossover: float = 0.9

    def __post_init__(self) -> None:
        in_range("nsga2", "population", self.population, 2)
        in_range("nsga2", "crossover", self.crossover, 0, 1)

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        sampler = optuna.samplers.NSGAIISampler(
            seed=seed, population_size=self.population, crossover_prob=self.crossover
        )
        key = sampler._get_generation_key()
        return _ask(sampler, space, history, lambda index: {key: index // self.population})
