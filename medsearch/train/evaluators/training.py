"""Score a genotype by training it for a short while."""

from __future__ import annotations

import time
from dataclasses import dataclass

from medsearch.spaces import Genotype
from medsearch.train.evaluator import EVALUATORS, Evaluator, Trained
from medsearch.train.loop import Epoch, train


@EVALUATORS.add("training")
@dataclass(frozen=True, kw_only=True)
class Training(Evaluator):
    """Trains genotypes on one data set by one recipe."""

    def __call__(self, genotype: Genotype, bounds: tuple[float, ...] = ()) -> Trained:
        """Train from fresh weights; stop where the error after the i-th evaluation is above ``bounds[i]``."""
        curve: list[float] = []
        start = time.monotonic()

        def note(epoch: Epoch) -> bool:
            curve.append(self.task.error(epoch.metrics))
            return len(curve) > len(bounds) or curve[-1] <= bounds[len(curve) - 1]

        averaged, record = train(
            self.network(genotype), self.data, self.task, self.recipe, watch=note, evaluate_every=self.evaluate_every
        )
        return Trained(
            model=averaged.cpu(),
            error=curve[-1],
            metrics=record[-1].metrics,
            curve=tuple(curve),
            stopped=record[-1].number < self.recipe.epochs,
            epochs=record[-1].number,
            seconds=time.monotonic() - start,
        )
