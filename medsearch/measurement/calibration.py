"""Whole networks measured against their predictions: what corrects a cost model, and what says how wrong it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsearch.measurement.costs import Calibration
from medsearch.measurement.estimate import Correction
from medsearch.measurement.latency.residual import ResidualModel
from medsearch.measurement.model import CostModel
from medsearch.spaces import Genotype

Measured = Mapping[str, float]
"""What one whole network took, by the name of the cost; endless where the process that measured it died."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How far predictions were from measurements, in percent of the measured value, over so many networks."""

    networks: int
    median_error_percent: float
    p95_error_percent: float
    largest_error_percent: float

    @classmethod
    def of(cls, predicted: Sequence[float], measured: Sequence[float]) -> Accuracy:
        """Summarise the absolute errors of pairs."""
        errors = [abs(p / m - 1) * 100 for p, m in zip(predicted, measured, strict=True)]
        return cls(
            networks=len(errors),
            median_error_percent=statistics.median(errors),
            p95_error_percent=float(np.quantile(errors, 0.95, method="nearest")),
            largest_error_percent=max(errors),
        )


def calibrate(
    cost: CostModel,
    genotypes: Sequence[Genotype],
    measured: Sequence[Measured],
    *,
    known: ResidualModel | None = None,
) -> dict[str, Accuracy]:
    """Correct every cost that ``cost`` predicts by what whole networks took.

    Returns the error that each network shows when the correction is fitted to all the others, so that none is judged by
    one that has seen it.  Networks that could not be measured are left out; where none could, the interval is wide.

    Args:
        cost: is corrected.
        genotypes: networks.
        measured: what each took, by the name of the cost.
        known: residual model that a profile of the device has for such networks; they then test it, and
            widen its interval where they lie outside.
    """
    found, corrections = {}, {}
    for name in cost.correctable:
        values = [(genotype, each[name]) for genotype, each in zip(genotypes, measured, strict=True) if name in each]
        finite = [(genotype, value) for genotype, value in values if math.isfinite(value)]
        seen = Calibration(
            model=cost,
            sums=[cost.rows[name].sums(cost, genotype) for genotype, _ in finite],
            measured=[value for _, value in finite],
            known=known,
        )
        corrections[name], accuracy = cost.rows[name].calibrate(seen)
        if accuracy is not None:
            found[name] = accuracy
    cost.correct(**corrections)
    return found


def corrected(
    sums: Sequence[float], measured: Sequence[float], *, before: Correction
) -> tuple[Correction, Accuracy | None]:
    """The factor between plain sums and whole networks, and the error of each by the factor of all the others.

    Args:
        sums: predictions without any correction.
        measured: what the networks took.
        before: the correction without them.
    """
    if not measured:
        return before, None
    found = Correction.fit(sums, measured).doubted(before, len(sums))
    return replace(found, spread=max(found.spread, LEAST_DOUBT)), Accuracy.of(others_say(sums, measured), measured)


def others_say(sums: Sequence[float], measured: Sequence[float]) -> list[float]:
    """Every value corrected by all the others."""
    predicted = []
    for i, value in enumerate(sums):
        others = [j for j in range(len(sums)) if j != i] or [i]
        fitted = Correction.fit([sums[j] for j in others], [measured[j] for j in others])
        predicted.append(fitted.factor * value)
    return predicted


LEAST_DOUBT = 0.02
"""Half width of the interval of predicted memory, however well the calibration went."""
UNSEEN = 1.1
"""Upper ratio of measured to predicted before enough has been measured."""


def upper_ratio(ratios: Sequence[float], *, cover: float = 0.97) -> float:
    """A factor on a prediction that the next measurement stays below with probability ``cover``.

    The smallest of ``ratios`` (measured to predicted) with at least ``cover`` of the n + 1 places below or at it, as in
    split conformal prediction (Lei et al. 2018, arXiv:1604.04173, theorem 2); :data:`UNSEEN` or the largest ratio,
    whichever is larger, where there are too few for that.
    """
    rank = math.ceil(cover * (len(ratios) + 1))
    if rank > len(ratios):
        return max([UNSEEN, *ratios])
    return sorted(ratios)[rank - 1]
