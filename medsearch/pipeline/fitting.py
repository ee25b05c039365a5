"""How each network of a search is trained: all alike, or each by a training plan that keeps the limit of memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medsearch.core.deaths import Deaths
from medsearch.core.errors import BudgetError
from medsearch.measurement.budget import Costs
from medsearch.measurement.estimate import Correction, Estimate
from medsearch.measurement.memory.peak import find_peak
from medsearch.measurement.memory.training_plan import TrainingPlan, fit
from medsearch.measurement.model import CostModel
from medsearch.spaces import Genotype
from medsearch.train import TrainingRecipe

LAST_RESORT = "fp32"
"""The precision of a training that has ended its process in another."""
ENDLESS = Estimate.exact(math.inf, "bytes", "predicted")


def named(genotype: Genotype) -> str:
    """A network as the record of deaths calls it."""
    return f"network {genotype.id}"


@dataclass(kw_only=True)
class Fitting:
    """Costs of genotypes as they are trained, and how that is.

    Args:
        cost: predicts the costs of a whole batch at once.
        recipe: of the training; its batch is what every step learns from.
        limit: bytes that a step has to keep; None trains every network as the recipe says.
        precisions: that may be used where there is a limit, the preferred one first.
        changing: bytes that the random changes of a batch take at most, before the network is given a piece of it.
        deaths: networks and operators that ended their process: what dies in 16 bits is trained in 32, and what dies
            in both takes endless memory.
    """

    cost: CostModel
    recipe: TrainingRecipe
    limit: float | None = None
    precisions: Sequence[str] = ("fp32", "bf16")
    changing: int = 0
    deaths: Deaths = field(default_factory=lambda: Deaths(""))
    _found: dict[tuple[Genotype, Correction, int, int], tuple[TrainingPlan, Estimate]] = field(
        default_factory=dict, repr=False
    )

    def __call__(self, genotype: Genotype, names: Collection[str] | None = None) -> Costs:
        """The predicted costs of ``genotype``, its memory that of its training plan.

        Args:
            genotype: of the network.
            names: of the costs that are wanted, so that no time is spent on others; None for all.
        """
        costs = self.cost(genotype) if names is None else self.cost.some(genotype, names)
        if self.limit is not None:
            return costs | {"memory": self._find(genotype)[1]}
        precision = self._precision(genotype)
        if precision == self.recipe.precision:
            return costs
        if precision is None:
            return costs | {"memory": ENDLESS}
        if "memory" not in costs:
            return costs
        return costs | {"memory": self._memory(genotype, replace(_whole(self.recipe), precision=precision))}

    def recipe_of(self, genotype: Genotype) -> TrainingRecipe:
        """How ``genotype`` is trained."""
        if self.limit is None:
            return replace(self.recipe, precision=self._precision(genotype) or LAST_RESORT)
        plan = self._find(genotype)[0]
        return replace(
            self.recipe, accumulate=plan.accumulate, precision=plan.precision, checkpointing=plan.checkpointing
        )

    def facts(self, genotype: Genotype) -> dict[str, Any]:
        """The training plan that was chosen, as plain data; empty where it is the recipe's own."""
        if self.limit is not None:
            return {"training_plan": vars(self._find(genotype)[0])}
        recipe = self.recipe_of(genotype)
        return {} if recipe == self.recipe else {"training_plan": vars(_whole(recipe))}

    def _precision(self, genotype: Genotype) -> str | None:
        """What the network is trained in: the recipe's precision, else 32 bits; None where its process ends in both."""
        wanted = self._alternatives((self.recipe.precision,))
        return next((precision for precision in wanted if self._lives(genotype, precision)), None)

    def _alternatives(self, wanted: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*wanted, LAST_RESORT)))

    def _lives(self, genotype: Genotype, precision: str) -> bool:
        """Whether nothing is known to end the process that trains the network in this precision.

        In 32 bits it is given a second chance, because there is nothing else to try.
        """
        deaths = self.deaths.times(named(genotype), precision=precision)
        if deaths > (precision == LAST_RESORT):
            return False
        if not self.cost.steps.deadly:
            return True
        return not self.cost.steps.chain(genotype, batch=self.recipe.batch, precision=precision).deadly

    def _find(self, genotype: Genotype) -> tuple[TrainingPlan, Estimate]:
        """The plan that is preferred of those that keep the limit; the one that takes least where none does."""
        assert self.limit is not None
        deaths = sum(self.deaths.times(named(genotype), precision=each) for each in self.precisions)
        key = genotype, self.cost.corrections["memory"], deaths, len(self.cost.workspaces.died)
        if key not in self._found:
            tried: dict[TrainingPlan, Estimate] = {}

            def peak(plan: TrainingPlan) -> float:
                tried[plan] = self._memory(genotype, plan)
                return tried[plan].high

            usable = [each for each in self._alternatives(self.precisions) if self._lives(genotype, each)]
            if not usable:
                return replace(_whole(self.recipe), precision=LAST_RESORT), ENDLESS
            try:
                found = fit(peak, limit=self.limit, wanted=self.recipe.batch, precisions=usable)
            except BudgetError:
                least = min(tried, key=lambda plan: tried[plan].high)
            else:
                least = TrainingPlan(
                    batch=found.batch,
                    accumulate=found.accumulate,
                    precision=found.precision,
                    checkpointing=found.checkpointing,
                )
            self._found[key] = least, tried[least]
        return self._found[key]

    def _memory(self, genotype: Genotype, plan: TrainingPlan) -> Estimate:
        """Peak bytes of a step; on the CPU the whole batch is there while a piece of it goes through the network.

        The correction was learned from whole batches, so that for another training plan the
        plain sum is in the interval too.
        """
        steps = self.cost.steps
        chain = steps.chain(genotype, batch=plan.batch, precision=plan.precision)
        if steps.device.kind == "cpu" and plan.accumulate > 1:
            whole = steps.chain(genotype, batch=self.recipe.batch, precision=plan.precision)
            chain = replace(chain, batch_bytes=whole.batch_bytes)
        peak = find_peak(chain, checkpointing=plan.checkpointing, accumulate=plan.accumulate > 1)
        before = Estimate.exact(peak.resident - chain.batch_bytes + self.changing, "bytes", "predicted")
        step: Estimate = self.cost.corrections["memory"].apply(peak.bytes, "bytes")
        if plan != _whole(self.recipe):
            step = replace(step, low=min(step.low, peak.bytes), high=max(step.high, peak.bytes))
        return max(step, before, key=lambda estimate: estimate.high)


def _whole(recipe: TrainingRecipe) -> TrainingPlan:
    """The training plan of a recipe itself."""
    return TrainingPlan(
        batch=recipe.batch,
        accumulate=recipe.accumulate,
        precision=recipe.precision,
        checkpointing=recipe.checkpointing,
    )
