"""Peak memory of a forward pass of one image."""

from __future__ import annotations

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS


@COSTS.add("inference")
class Inference:
    """Peak memory of a forward pass of one image."""

    option = "infer-mem"
    unit = "bytes"
    example = "100MB"
    about = "peak memory of a forward pass of one image"

    def parse(self, text: str, *, where: str) -> float:
        """Bytes."""
        return parse_bytes(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 GB``."""
        return format_bytes(value)
