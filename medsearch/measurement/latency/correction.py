"""From sums over parts, timed and not, to whole networks: what those that were measured say of both.

Networks whose parts were timed say how whole networks relate to sums: the residual model.  Networks with parts that
were not timed say how far the prior is off here, by one factor, because nothing tells their parts apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medsearch.measurement.estimate import Estimate, left
from medsearch.measurement.latency.residual import ResidualModel, fit, tested_or_fitted

if TYPE_CHECKING:
    from medsearch.measurement.model import Milliseconds

MOSTLY_TIMED = 0.9
"""Share of the sum that was timed, from which on a network says something about sums over timed parts."""
UNSEEN_SPREAD = 0.5
"""Half width of an interval where no network could be measured."""
MARGIN = 1.25
"""Room beyond the largest error that was seen."""


@dataclass(frozen=True, kw_only=True)
class LatencyCorrection:
    """What whole networks showed.

    Args:
        residual: from sums over parts to whole networks.
        untimed: logarithm of the factor on parts that were not timed.
        doubt: share of the interval of these parts that is left, in the logarithm.
    """

    residual: ResidualModel = field(default_factory=ResidualModel)
    untimed: float = 0.0
    doubt: float = 1.0

    def apply(self, spent: Milliseconds, unit: str) -> Estimate:
        """The corrected sum with its interval: both ends of what was not timed, and those of the residual model."""
        untimed = spent.untimed * math.exp(self.untimed)
        found = self.residual.apply(spent.timed + untimed, spent.features, unit)
        if not untimed:
            return found
        low, high = (untimed * (end / spent.untimed) ** self.doubt for end in (spent.low, spent.high))
        total = spent.timed + untimed
        return replace(
            found, low=found.low * (spent.timed + low) / total, high=found.high * (spent.timed + high) / total
        )


def fitted(
    spent: Sequence[Milliseconds],
    measured: Sequence[float],
    known: ResidualModel | None,
    *,
    before: ResidualModel | None = None,
) -> tuple[LatencyCorrection, Sequence[float]]:
    """The correction that networks show, and what is predicted for each without having seen it.

    Args:
        spent: sums over the parts of each.
        measured: milliseconds of each.
        known: a residual model of the device's profile, which they then test.
        before: a residual model of other devices, whose doubt goes as networks are seen; None believes the networks
            alone.
    """
    pairs = list(zip(spent, measured, strict=True))
    timed = [(one, real) for one, real in pairs if one.timed >= MOSTLY_TIMED * one.total]
    mixed = [(one, real) for one, real in pairs if one.timed < MOSTLY_TIMED * one.total]
    residual, predicted = _residual(timed, known, before)
    found = LatencyCorrection(residual=residual)
    if mixed:
        found = _untimed([_off(one, real, residual) for one, real in mixed], [one for one, _ in mixed], residual)
        predicted = [*predicted, *(found.apply(one, "ms").value for one, _ in mixed)]
    return found, predicted


def _residual(
    timed: Sequence[tuple[Milliseconds, float]], known: ResidualModel | None, before: ResidualModel | None
) -> tuple[ResidualModel, list[float]]:
    sums, measured = [(one.total, one.features) for one, _ in timed], [real for _, real in timed]
    if not timed:
        return known or before or ResidualModel(spread=UNSEEN_SPREAD), []
    if known is not None or before is None:
        found, predicted = tested_or_fitted(sums, measured, known)
        return found, list(predicted)
    found = fit([total for total, _ in sums], [features for _, features in sums], measured)
    found = replace(found, spread=max(found.spread, left(before.spread, len(timed))))
    errors = found.errors or (math.log(measured[0] / before.apply(*sums[0], "ms").value),)
    return found, [real / math.exp(error) for real, error in zip(measured, errors, strict=True)]


def _off(one: Milliseconds, real: float, residual: ResidualModel) -> float:
    """Logarithm of the factor by which the prior is off in one network, within its interval and as much again."""
    factor = residual.apply(1.0, one.features, "ms").value
    beside = max(real / factor - one.timed, 1e-9) / one.untimed
    widest = 2 * math.log(one.high / one.untimed)
    return min(max(math.log(beside), -widest), widest)


def _untimed(off: Sequence[float], mixed: Sequence[Milliseconds], residual: ResidualModel) -> LatencyCorrection:
    """One factor on the prior; some of its doubt goes with every network that agrees."""
    middle = statistics.median(off)
    doubts = [math.log(each.high / each.untimed) for each in mixed]
    seen = [MARGIN * abs(one - middle) / doubt for one, doubt in zip(off, doubts, strict=True)]
    return LatencyCorrection(residual=residual, untimed=middle, doubt=max(*seen, left(1.0, len(off))))
