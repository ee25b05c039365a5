"""Median latency of the exported file at batch 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medsearch.core.units import parse_seconds
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Estimate

if TYPE_CHECKING:
    from medsearch.measurement.calibration import Accuracy
    from medsearch.measurement.latency.residual import ResidualModel


@COSTS.add("latency")
class Latency(Cost):
    """Median latency of the exported file at batch 1, in milliseconds."""

    option = "latency"
    unit = "ms"
    example = "20ms"
    about = "median latency of the exported file, batch 1, 1 thread"
    title = "latency"
    of_file = True
    timed = True

    def parse(self, text: str, *, where: str) -> float:
        """Milliseconds."""
        return parse_seconds(text, where=where) * 1e3

    def show(self, value: float) -> str:
        """``12.3 ms``; no powers of ten for the slow ones."""
        return f"{value:.3g} ms" if value < 1000 else f"{value:.0f} ms"

    def conditions(self, circumstances: Circumstances) -> str:
        """Runtime and threads."""
        threads = circumstances.threads
        return f"{circumstances.runtime}, batch 1, {threads} thread{'s' * (threads > 1)}"

    def predict(self, asked: Prediction) -> Estimate:
        """The sum over timed parts, corrected for what a runtime does across parts; endless where a part ends it."""
        milliseconds, features = asked.model.milliseconds(asked.genotype)
        if math.isinf(milliseconds):
            return Estimate.exact(milliseconds, self.unit, "predicted")
        found: Estimate = asked.correction.apply(milliseconds, features, self.unit)
        return found

    def correction(self) -> ResidualModel:
        """None yet."""
        from medsearch.measurement.latency.residual import ResidualModel

        return ResidualModel()

    def calibrate(self, seen: Calibration) -> tuple[ResidualModel, Accuracy | None]:
        """A residual model over the features of a network, fitted; or the profile's own, tested and widened."""
        from medsearch.measurement.calibration import UNSEEN_SPREAD, Accuracy
        from medsearch.measurement.latency.residual import ResidualModel, tested_or_fitted

        sums = [seen.model.milliseconds(genotype) for genotype in seen.genotypes]
        pairs = [(total, real) for total, real in zip(sums, seen.measured, strict=True) if math.isfinite(total[0])]
        if not pairs:
            return seen.known or ResidualModel(spread=UNSEEN_SPREAD), None
        sums, real = map(list, zip(*pairs, strict=True))
        residual, predicted = tested_or_fitted(sums, real, seen.known)
        return residual, Accuracy.of(predicted, real)

    def measure(self, asked: Measurement) -> Estimate | None:
        """By the timing; the median is what counts, and the upper end therefore."""
        timed = asked.timing
        if timed is None:
            return None
        return Estimate(
            value=timed.median_ms, low=timed.quartile_low_ms, high=timed.median_ms, unit=self.unit, how="measured"
        )
