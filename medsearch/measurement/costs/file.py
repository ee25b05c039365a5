"""Size of the file that is deployed: ONNX, or what another target runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS, Calibration, Circumstances, Cost, Measurement, Prediction
from medsearch.measurement.estimate import Correction, Estimate

if TYPE_CHECKING:
    from medsearch.measurement.calibration import Accuracy
    from medsearch.measurement.model import CostModel
    from medsearch.spaces import Genotype

PART_BYTES = 4000
"""Of a part in the graph, beside its weights, before any correction."""
WEIGHT_BYTES = 4


@COSTS.add("file")
class File(Cost):
    """Size of the file that is deployed."""

    option = "file"
    unit = "bytes"
    example = "5MB"
    about = "size of the file that is deployed"
    title = "file"
    of_file = True

    def parse(self, text: str, *, where: str) -> float:
        """Bytes."""
        return parse_bytes(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 GB``."""
        return format_bytes(value)

    def conditions(self, circumstances: Circumstances) -> str:
        """Its name."""
        return circumstances.artifact

    def predict(self, asked: Prediction) -> Estimate:
        """The graph, corrected, and 4 bytes a weight."""
        graph: Estimate = asked.correction.apply(PART_BYTES * asked.model.parts_count(asked.genotype), self.unit)
        return graph.plus(WEIGHT_BYTES * asked.parameters)

    def correction(self) -> Correction:
        """Of the graph alone; nothing is known of it yet."""
        return Correction(spread=1.0)

    def sums(self, model: CostModel, genotype: Genotype) -> tuple[float, ...]:
        """Of the graph, and of the weights."""
        return PART_BYTES * model.parts_count(genotype), WEIGHT_BYTES * model.parameters(genotype)

    def calibrate(self, seen: Calibration) -> tuple[Correction, Accuracy | None]:
        """One factor on the graph; the errors are those of whole files."""
        from medsearch.measurement.calibration import Accuracy, others_say

        if not seen.measured:
            return self.correction(), None
        graphs, weights = map(list, zip(*seen.sums, strict=True))
        beside = [file - known for file, known in zip(seen.measured, weights, strict=True)]
        predicted = [p + known for p, known in zip(others_say(graphs, beside), weights, strict=True)]
        found = Correction.fit(graphs, beside)
        return found.doubted(self.correction(), len(graphs)), Accuracy.of(predicted, seen.measured)

    def measure(self, asked: Measurement) -> Estimate:
        """Counted."""
        return Estimate.exact(len(asked.artifact), self.unit, "measured")
