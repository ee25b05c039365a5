"""Whole networks measured against their predictions: what corrects a cost model, and what says how wrong it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medsearch.measurement.latency.residual import ResidualModel, fit
from medsearch.measurement.model import Correction, CostModel, Sums
from medsearch.spaces import Genotype


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one whole network took: peak bytes of a training step, and milliseconds of its file.

    Endless where the process that measured it died.
    """

    memory: float
    latency: float


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
    measure: Callable[[Sequence[Genotype]], Sequence[Measured]],
    *,
    known: ResidualModel | None = None,
) -> dict[str, Accuracy]:
    """Measure ``genotypes`` as whole networks and correct ``cost`` by them.

    Latency is corrected by a residual model over the features of a network, memory by one factor.  Returns the error
    that each network shows when the correction is fitted to all the others, so that none is judged by one that has
    seen it.  Networks that could not be measured are left out; where none could, the interval is wide.

    Args:
        cost: is corrected.
        genotypes: networks.
        measure: what they take.
        known: residual model that a profile of the device has for such networks; they then test it, and
            widen its interval where they lie outside.
    """
    pairs = list(zip(map(cost.sums, genotypes), measure(genotypes), strict=True))
    stepped = [(total.memory, real.memory) for total, real in pairs if math.isfinite(real.memory)]
    timed = [(total, real) for total, real in pairs if math.isfinite(real.latency + total.latency)]
    found = {}
    if stepped:
        peaks, memory = map(list, zip(*stepped, strict=True))
        cost.correct(memory=Correction.fit(peaks, memory))
        found["memory"] = _left_out(peaks, memory)
    else:
        cost.correct(memory=Correction(spread=UNSEEN_SPREAD))
    if timed:
        residual, predicted = _residual([total for total, _ in timed], [real.latency for _, real in timed], known)
        cost.correct(latency=residual)
        found["latency"] = Accuracy.of(predicted, [real.latency for _, real in timed])
    else:
        cost.correct(latency=known or ResidualModel(spread=UNSEEN_SPREAD))
    return found


def _residual(
    sums: Sequence[Sums], latency: Sequence[float], known: ResidualModel | None
) -> tuple[ResidualModel, Sequence[float]]:
    """The residual model that networks show or have tested, and what is predicted for each without having seen it."""
    if known is None:
        known = fit([found.latency for found in sums], [found.features for found in sums], latency)
        unseen = [found / math.exp(error) for found, error in zip(latency, known.errors, strict=False)]
        return known, unseen or latency
    predicted = [known.apply(found.latency, found.features, "ms").value for found in sums]
    seen = (abs(math.log(real / said)) for real, said in zip(latency, predicted, strict=True))
    return replace(known, spread=max(known.spread, *seen)), predicted


def calibrate_file(cost: CostModel, genotypes: Sequence[Genotype], size: Callable[[Genotype], int]) -> Accuracy:
    """Export ``genotypes`` as they are delivered and learn how many bytes a file has beside 4 for every weight.

    Returns the error of whole files, each predicted from all the others.
    """
    graphs = [cost.graph_bytes(genotype) for genotype in genotypes]
    weights = [4 * cost(genotype).parameters.value for genotype in genotypes]
    files = [size(genotype) for genotype in genotypes]
    beside = [file - known for file, known in zip(files, weights, strict=True)]
    cost.correct(file=Correction.fit(graphs, beside))
    predicted = [p + known for p, known in zip(_others_say(graphs, beside), weights, strict=True)]
    return Accuracy.of(predicted, files)


def _left_out(sums: Sequence[float], measured: Sequence[float]) -> Accuracy:
    return Accuracy.of(_others_say(sums, measured), measured)


def _others_say(sums: Sequence[float], measured: Sequence[float]) -> list[float]:
    """Every value corrected by all the others."""
    predicted = []
    for i, value in enumerate(sums):
        others = [j for j in range(len(sums)) if j != i] or [i]
        fitted = Correction.fit([sums[j] for j in others], [measured[j] for j in others])
        predicted.append(fitted.factor * value)
    return predicted


UNSEEN_SPREAD = 0.5
"""Half width of an interval where no network could be measured."""
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
