"""Multiply-adds of one image."""

from __future__ import annotations

from medsearch.core.units import format_count, parse_count
from medsearch.measurement.costs import COSTS


@COSTS.add("macs")
class Macs:
    """Multiply-adds of one image."""

    option = "macs"
    unit = "MAC"
    example = "500M"
    about = "multiply-adds of one image"

    def parse(self, text: str, *, where: str) -> float:
        """A count."""
        return parse_count(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 M``."""
        return format_count(value)
