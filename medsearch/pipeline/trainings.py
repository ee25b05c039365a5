"""Trainings of a search: how long each may take, and what is tried in place of one that ended its process."""

from __future__ import annotations

import math
from dataclasses import replace

from medsearch.core.children import ChildDied
from medsearch.pipeline.job import Job
from medsearch.spaces import Genotype
from medsearch.train.workers import Remote

LEAST_LIMIT_SECONDS = 120.0
"""How long any training may take at least, before it counts as hanging."""
SLOW_STEP_SECONDS = 10.0
"""And how much longer for every step; also what a step is taken for that could not be timed."""


def training(job: Job, genotype: Genotype, epochs: int) -> Remote:
    """A training, with the time after which it counts as hanging."""
    steps = epochs * math.ceil(len(job.setup.data.train) / job.setup.recipe.batch)
    return Remote(
        interface=job.setup.interface,
        recipe=replace(job.fitting.recipe_of(genotype), epochs=epochs),
        limit_s=min(LEAST_LIMIT_SECONDS + SLOW_STEP_SECONDS * steps, max(LEAST_LIMIT_SECONDS, job.clock.left())),
    )


def evaluation(job: Job, genotype: Genotype, epochs: int) -> Remote:
    """A trial, by the evaluator that was asked for."""
    return replace(training(job, genotype, epochs), evaluator=job.config.evaluator)


def instead(job: Job, genotype: Genotype, problem: BaseException, before: int) -> str | None:
    """What is tried in place of a training that ended its process: once more, in 32 bits, if that keeps the budget."""
    if not isinstance(problem, ChildDied):
        return None
    death = job.died(genotype, problem, precision=job.fitting.recipe_of(genotype).precision)
    predicted = job.fitting(genotype)  # what cannot be predicted was measured before, and does not change
    if before or job.budget.only(predicted).violation(predicted) > 0:
        return None
    return f"{death}; tried again in {job.fitting.recipe_of(genotype).precision}"


def step_seconds(job: Job, genotype: Genotype) -> float:
    """Seconds of a training step of ``genotype``; those of a slow one where its process ended."""
    recipe = job.fitting.recipe_of(genotype)
    try:
        return float(job.lab.call(job.setup.step_seconds, genotype, recipe, doing="timing a training step"))
    except ChildDied as death:
        job.died(genotype, death, precision=recipe.precision)
        return SLOW_STEP_SECONDS
