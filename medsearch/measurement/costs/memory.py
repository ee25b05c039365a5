"""Peak memory of one training step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Correction, Estimate

if TYPE_CHECKING:
    from medsearch.measurement.calibration import Accuracy
    from medsearch.measurement.model import CostModel
    from medsearch.spaces import Genotype

UNSEEN_CPU = 0.03
"""Half width of the interval before any step was measured, as a share: half as much again as the traced sum was off
by at most, over 312 networks (``reports/budgets/memory-cpu.csv``)."""
UNSEEN_CUDA = 0.35
"""The same on a GPU, whose libraries take workspaces that they do not take for an operator by itself: off by at most a
quarter over 40 networks (``reports/budgets/memory-h100.csv``)."""


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
        """None yet, but the doubt that networks have left which were traced and measured for the purpose."""
        import torch

        return Correction(spread=UNSEEN_CUDA if torch.cuda.is_available() else UNSEEN_CPU)

    def sums(self, model: CostModel, genotype: Genotype) -> tuple[float, ...]:
        """The peak along the chain of traced parts."""
        return (model.step_bytes(genotype),)

    def calibrate(self, seen: Calibration) -> tuple[Correction, Accuracy | None]:
        """One factor."""
        from medsearch.measurement.calibration import corrected

        return corrected([total for (total,) in seen.sums], seen.measured, before=self.correction())

    def measure(self, asked: Measurement) -> Estimate:
        """By the allocator's own records of a step."""
        return Estimate.exact(asked.step_bytes(), self.unit, "measured")
