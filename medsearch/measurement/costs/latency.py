"""Median latency of the exported file at batch 1."""

from __future__ import annotations

from medsearch.core.units import parse_seconds
from medsearch.measurement.costs import COSTS


@COSTS.add("latency")
class Latency:
    """Median latency of the exported file at batch 1, in milliseconds."""

    option = "latency"
    unit = "ms"
    example = "20ms"
    about = "median latency of the exported file, batch 1, 1 thread"

    def parse(self, text: str, *, where: str) -> float:
        """Milliseconds."""
        return parse_seconds(text, where=where) * 1e3

    def show(self, value: float) -> str:
        """``12.3 ms``."""
        return f"{value:.3g} ms"
