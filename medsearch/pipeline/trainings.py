"""Trainings of a search: how far each goes, and what is tried in place of one that ended its process."""

from __future__ import annotations

import math
from dataclasses import replace

from medsearch.core.children import ChildDied
from medsearch.pipeline.job import Job
from medsearch.pipeline.planner import LEAST_STEPS, Plan
from medsearch.spaces import Genotype
from medsearch.train import Leg
from medsearch.train.workers import Remote

LEAST_LIMIT_SECONDS = 120.0
"""How long any training may take at least, before it counts as hanging."""
SLOW_STEP_SECONDS = 10.0
"""And how much longer for every step, where steps are counted."""


def training(job: Job, genotype: Genotype, leg: Leg) -> Remote:
    """A training that goes on from its checkpoint, with the time after which it counts as hanging."""
    seconds = leg.within if leg.within is not None else SLOW_STEP_SECONDS * (leg.steps or 0)
    return Remote(
        interface=job.setup.interface,
        recipe=job.fitting.recipe_of(genotype),
        leg=leg,
        checkpoint=job.run.checkpoint(genotype.id),
        limit_s=LEAST_LIMIT_SECONDS + seconds,
    )


def evaluation(job: Job, genotype: Genotype, plan: Plan, rung: int) -> Remote:
    """A trial on its way to a rung, by the evaluator that was asked for."""
    if plan.first is None:
        leg = Leg(steps=round((plan.epochs or 0) * plan.cumulative(rung) * steps_per_epoch(job)))
    else:
        within = None if plan.training_end is None else max(0.0, plan.training_end - job.clock.spent)
        leg = Leg(seconds=plan.first * plan.cumulative(rung), least=LEAST_STEPS, within=within)
    return replace(training(job, genotype, leg), evaluator=job.config.evaluator)


def steps_per_epoch(job: Job) -> int:
    """Batches in the training split."""
    return math.ceil(len(job.setup.data.train) / job.setup.recipe.batch)


def instead(job: Job, genotype: Genotype, problem: BaseException, before: int) -> str | None:
    """What is tried in place of a training that ended its process: once more, in 32 bits, if that keeps the budget."""
    if not isinstance(problem, ChildDied):
        return None
    death = job.died(genotype, problem, precision=job.fitting.recipe_of(genotype).precision)
    predicted = job.fitting(genotype)  # what cannot be predicted was measured before, and does not change
    if before or job.budget.only(predicted).violation(predicted) > 0:
        return None
    return f"{death}; tried again in {job.fitting.recipe_of(genotype).precision}"
