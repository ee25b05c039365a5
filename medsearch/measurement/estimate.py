"""A number with its unit, how sure it is, and how it was obtained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One quantity.

    Args:
        value: the number.
        low, high: an interval around it; equal to ``value`` where the number is exact.
        unit: ``bytes``, ``ms``, ``parameters`` or ``MAC``.
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
