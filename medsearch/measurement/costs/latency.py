"""Median latency of the exported file at batch 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medsearch.core.units import parse_seconds
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Estimate

if TYPE_CHECKING:
    from medsearch.measurement.calibration import Accuracy
    from medsearch.measurement.latency.correction import LatencyCorrection
    from medsearch.measurement.model import CostModel
    from medsearch.spaces import Genotype


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
        """The sum over parts, corrected for what a runtime does across parts; endless where a part ends it."""
        spent = asked.model.milliseconds(asked.genotype)
        if math.isinf(spent.total):
            return Estimate.exact(spent.total, self.unit, "predicted")
        found: Estimate = asked.correction.apply(spent, self.unit)
        return found

    def correction(self) -> LatencyCorrection:
        """None yet."""
        from medsearch.measurement.latency.correction import LatencyCorrection

        return LatencyCorrection()

    def sums(self, model: CostModel, genotype: Genotype) -> tuple[float, ...]:
        """What timed parts take, what others do by the prior with its interval, and the features of the network."""
        spent = model.milliseconds(genotype)
        return (*spent[:4], *spent.features)

    def calibrate(self, seen: Calibration) -> tuple[LatencyCorrection, Accuracy | None]:
        """A residual model over the features of a network, fitted; or the profile's own, tested and widened."""
        from medsearch.measurement.calibration import Accuracy
        from medsearch.measurement.latency.correction import fitted
        from medsearch.measurement.model import Milliseconds

        pairs = [
            (Milliseconds(numbers[0], numbers[1], numbers[2], numbers[3], tuple(numbers[4:])), real)
            for numbers, real in zip(seen.sums, seen.measured, strict=True)
            if math.isfinite(numbers[0])
        ]
        before = seen.model.prior.whole if seen.model.prior else None
        found, predicted = fitted([spent for spent, _ in pairs], [real for _, real in pairs], seen.known, before=before)
        return found, Accuracy.of(predicted, [real for _, real in pairs]) if predicted else None

    def measure(self, asked: Measurement) -> Estimate | None:
        """By the timing; the median is what counts, and the upper end therefore."""
        timed = asked.timing
        if timed is None:
            return None
        return Estimate(
            value=timed.median_ms, low=timed.quartile_low_ms, high=timed.median_ms, unit=self.unit, how="measured"
        )
