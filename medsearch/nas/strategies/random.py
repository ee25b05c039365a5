"""Uniform random search: the control that every other strategy has to beat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from medsearch.nas.strategy import STRATEGIES, Trial
from medsearch.spaces import Genotype, Space


@STRATEGIES.add("random")
@dataclass(frozen=True, kw_only=True)
class RandomSearch:
    """Draw uniformly over the networks of the space, whatever the history."""

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        return space.sample(random.Random(seed))
