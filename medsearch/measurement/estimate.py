"""A number with its unit, how sure it is, and how it was obtained."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One quantity.

    Args:
        value: the number.
        low, high: an interval around it; equal to ``value`` where the number is exact.
        unit: that of the cost, such as ``bytes`` or ``ms``.
        how: ``analytic``, ``predicted`` or ``measured``.
    """

    value: float
    low: float
    high: float
    unit: str
    how: str

    @classmethod
    def exact(cls, value: float, unit: str, how: str = "analytic") -> Estimate:
        """A number without doubt."""
        return cls(value=value, low=value, high=value, unit=unit, how=how)

    def plus(self, known: float) -> Estimate:
        """The same quantity with a known amount added."""
        return replace(self, value=self.value + known, low=self.low + known, high=self.high + known)

    def to_data(self) -> dict[str, float | str]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How the sum over parts relates to whole networks: measured = factor * sum, within ``spread`` (a share of it)."""

    factor: float = 1.0
    spread: float = 0.0

    @classmethod
    def fit(cls, sums: Sequence[float], measured: Sequence[float], *, margin: float = 1.25) -> Correction:
        """The median ratio, and ``margin`` times the largest deviation from it that was seen."""
        ratios = [real / predicted for real, predicted in zip(measured, sums, strict=True)]
        factor = statistics.median(ratios)
        return cls(factor=factor, spread=margin * max(abs(ratio / factor - 1) for ratio in ratios))

    def doubted(self, before: Correction, networks: int) -> Correction:
        """The same, fitted to so few networks that some of the doubt is left which there was ``before``."""
        return replace(self, spread=max(self.spread, left(before.spread, networks)))

    def apply(self, value: float, unit: str) -> Estimate:
        """The corrected sum with its interval."""
        middle = self.factor * value
        low, high = middle * (1 - self.spread), middle * (1 + self.spread)
        return Estimate(value=middle, low=max(0.0, low), high=high, unit=unit, how="predicted")


def left(doubt: float, networks: int) -> float:
    """What remains of a doubt when so many networks have been measured that show no more than they have."""
    return doubt / math.sqrt(1 + networks)
