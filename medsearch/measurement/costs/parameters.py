"""Weights of the network."""

from __future__ import annotations

from medsearch.core.units import format_count, parse_count
from medsearch.measurement.costs import COSTS


@COSTS.add("parameters")
class Parameters:
    """Weights of the network."""

    option = "params"
    unit = "parameters"
    example = "1M"
    about = "number of parameters"

    def parse(self, text: str, *, where: str) -> float:
        """A count."""
        return parse_count(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 M``."""
        return format_count(value)
