"""Peak memory of one training step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Correction, Estimate

if TYPE_CHECKING:
    from medsearch.measurement.calibration import Accuracy


@COSTS.add("memory")
class Memory(Cost):
    """Peak memory of one training step."""

    option = "mem"
    unit = "bytes"
    example = "1GB"
    about = "peak memory of one training step"
    title = "memory"

    def parse(self, text: str, *, where: str) -> float:
        """Bytes."""
        return parse_bytes(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 GB``."""
        return format_bytes(value)

    def conditions(self, circumstances: Circumstances) -> str:
        """Batch and precision."""
        return f"one training step, batch {circumstances.batch}, {circumstances.training}"

    def predict(self, asked: Prediction) -> Estimate:
        """The peak along the chain of traced parts, corrected."""
        found: Estimate = asked.correction.apply(asked.model.step_bytes(asked.genotype), self.unit)
        return found

    def correction(self) -> Correction:
        """None yet."""
        return Correction()

    def calibrate(self, seen: Calibration) -> tuple[Correction, Accuracy | None]:
        """One factor."""
        from medsearch.measurement.calibration import corrected

        return corrected([seen.model.step_bytes(genotype) for genotype in seen.genotypes], seen.measured)

    def measure(self, asked: Measurement) -> Estimate:
        """By the allocator's own records of a step."""
        return Estimate.exact(asked.step_bytes(), self.unit, "measured")
