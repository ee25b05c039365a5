"""Weights of the network."""

from __future__ import annotations

from medsearch.core.units import format_count, parse_count
from medsearch.measurement.costs import COSTS, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Estimate


@COSTS.add("parameters")
class Parameters(Cost):
    """Weights of the network."""

    option = "params"
    unit = "parameters"
    example = "1M"
    about = "number of parameters"
    title = "params"
    exact = True

    def parse(self, text: str, *, where: str) -> float:
        """A count."""
        return parse_count(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 M``."""
        return format_count(value)

    def predict(self, asked: Prediction) -> Estimate:
        """The sum over parts."""
        return Estimate.exact(asked.parameters, self.unit)

    def measure(self, asked: Measurement) -> Estimate:
        """Counted."""
        return Estimate.exact(sum(weight.numel() for weight in asked.network.parameters()), self.unit, "measured")
