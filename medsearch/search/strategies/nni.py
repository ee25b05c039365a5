"""NNI's tree-structured Parzen estimator as a strategy, in this process; needs the extra ``medsearch[nni]``.

NNI's tuners know one objective, so error, latency and memory are added up; its experiment manager is never started.
Like Optuna's samplers, the tuner is made anew for every proposal and told the whole history.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from medsearch.core.errors import UsageError
from medsearch.search.strategy import STRATEGIES, Trial
from medsearch.spaces import Genotype, Space


@STRATEGIES.add("nni-tpe")
@dataclass(frozen=True, kw_only=True)
class NniTreeParzen:
    """TPE (Bergstra et al. 2011) by NNI, on error + ``weight`` * (latency + memory), costs as shares of the dearest.

    NNI has no genes that depend on others: it is told all of them, and those that a network does not have are ignored.

    Args:
        weight: of each cost against the error.
    """

    weight: float = 0.05

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        try:
            from nni.algorithms.hpo.tpe_tuner import TpeTuner
        except ImportError as problem:
            raise UsageError("--strategy nni-tpe", "NNI is not installed.", "pip install 'medsearch[nni]'") from problem
        logging.getLogger("nni").setLevel(logging.WARNING)
        options = space.genes()
        tuner = TpeTuner(optimize_mode="minimize", seed=seed)
        tuner.update_search_space({gene: {"_type": "choice", "_value": labels} for gene, labels in options.items()})
        first = {gene: labels[0] for gene, labels in options.items()}
        known = [trial for trial in history if trial.objectives is not None]
        tuner.import_data(
            [{"parameter": {**first, **trial.genes}, "value": value} for trial, value in self._values(known)]
        )
        drawn = tuner.generate_parameters(len(known))
        return space.express(lambda gene, labels: drawn[gene])

    def _values(self, trials: Sequence[Trial]) -> list[tuple[Trial, float]]:
        objectives = [trial.objectives for trial in trials if trial.objectives is not None]
        dearest = [max((values[i] for values in objectives), default=1.0) or 1.0 for i in range(3)]
        return [
            (trial, error + self.weight * (latency / dearest[1] + memory / dearest[2]))
            for trial, (error, latency, memory) in zip(trials, objectives, strict=True)
        ]
