"""Peak memory of a forward pass of one image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Correction, Estimate

if TYPE_CHECKING:
    from medsearch.measurement.calibration import Accuracy
    from medsearch.measurement.model import CostModel
    from medsearch.spaces import Genotype

UNCALIBRATED_SPREAD = 0.05
"""Half width of the interval before forward passes were measured, as a share."""


@COSTS.add("inference")
class Inference(Cost):
    """Peak memory of a forward pass of one image."""

    option = "infer-mem"
    unit = "bytes"
    example = "100MB"
    about = "peak memory of a forward pass of one image"
    title = "inference memory"

    def parse(self, text: str, *, where: str) -> float:
        """Bytes."""
        return parse_bytes(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 GB``."""
        return format_bytes(value)

    def conditions(self, circumstances: Circumstances) -> str:
        """One image in 32 bits."""
        return "one forward pass, batch 1, fp32"

    def predict(self, asked: Prediction) -> Estimate:
        """The peak along the chain of traced parts, corrected."""
        found: Estimate = asked.correction.apply(asked.model.forward_bytes(asked.genotype), self.unit)
        return found

    def correction(self) -> Correction:
        """None yet, but some doubt."""
        return Correction(spread=UNCALIBRATED_SPREAD)

    def sums(self, model: CostModel, genotype: Genotype) -> tuple[float, ...]:
        """The peak along the chain of traced parts."""
        return (model.forward_bytes(genotype),)

    def calibrate(self, seen: Calibration) -> tuple[Correction, Accuracy | None]:
        """One factor."""
        from medsearch.measurement.calibration import corrected

        return corrected([total for (total,) in seen.sums], seen.measured, before=self.correction())

    def measure(self, asked: Measurement) -> Estimate:
        """By the allocator's own records."""
        from medsearch.measurement.memory.inference import forward_peak

        return Estimate.exact(forward_peak(asked.network, asked.data), self.unit, "measured")
