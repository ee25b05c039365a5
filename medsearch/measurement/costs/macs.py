"""Multiply-adds of one image."""

from __future__ import annotations

from medsearch.core.units import format_count, parse_count
from medsearch.measurement.costs import COSTS, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Estimate


@COSTS.add("macs")
class Macs(Cost):
    """Multiply-adds of one image."""

    option = "macs"
    unit = "MAC"
    example = "500M"
    about = "multiply-adds of one image"
    title = "MACs"
    exact = True

    def parse(self, text: str, *, where: str) -> float:
        """A count."""
        return parse_count(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 M``."""
        return format_count(value)

    def conditions(self, circumstances: Circumstances) -> str:
        """One image."""
        return "one image"

    def predict(self, asked: Prediction) -> Estimate:
        """The sum over parts."""
        return Estimate.exact(asked.macs, self.unit)

    def measure(self, asked: Measurement) -> Estimate:
        """Counted while the network runs."""
        from medsearch.measurement.macs import count

        image = asked.image()
        return Estimate.exact(count(lambda: asked.network(image)), self.unit, "measured")
