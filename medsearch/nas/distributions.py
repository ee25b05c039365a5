"""Genes as Optuna sees them: numbers in their order, everything else as categories.

A sampler is shown the place of a number among the options of its gene, from 0 for the smallest: so it learns what lies
beside what, every place maps back to an option, and options are equally likely at first, however uneven their steps
(widths of 64, 96 and 256).  A study on disk is read by people, so there the numbers themselves stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def is_ordered(options: Sequence[Any]) -> bool:
    """Whether the options are finite numbers, in whichever order they are written; true and false are none."""
    return all(type(option) in (int, float) and math.isfinite(option) for option in options)


def sampled(options: Sequence[Any]) -> BaseDistribution:
    """What a sampler draws a gene with these options from: places of numbers, else the options."""
    return IntDistribution(0, len(options) - 1) if is_ordered(options) else CategoricalDistribution(options)


def place(option: Any, options: Sequence[Any]) -> Any:
    """What stands for ``option`` in a trial that a sampler learns from; the inverse of :func:`suggest`."""
    return sorted(options).index(option) if is_ordered(options) else option


def suggest(trial: Trial, gene: str, options: Sequence[Any]) -> Any:
    """The option of a gene that the sampler of ``trial`` proposes."""
    if is_ordered(options):
        return sorted(options)[trial.suggest_int(gene, 0, len(options) - 1)]
    return trial.suggest_categorical(gene, options)


def recorded(options: Sequence[Any]) -> BaseDistribution:
    """What a study on disk says of a gene with these options; it is written and read, never drawn from.

    Numbers are a range from the smallest to the largest, in the widest step that meets every option if all are whole.
    """
    if not is_ordered(options):
        return CategoricalDistribution(options)
    ladder = sorted(options)
    if all(type(option) is int for option in options):
        step = math.gcd(*(after - before for before, after in pairwise(ladder)))
        return IntDistribution(ladder[0], ladder[-1], step=step or 1)
    return FloatDistribution(ladder[0], ladder[-1])
