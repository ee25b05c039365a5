"""Peak memory of one training step."""

from __future__ import annotations

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS


@COSTS.add("memory")
class Memory:
    """Peak memory of one training step."""

    option = "mem"
    unit = "bytes"
    example = "1GB"
    about = "peak memory of one training step"

    def parse(self, text: str, *, where: str) -> float:
        """Bytes."""
        return parse_bytes(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 GB``."""
        return format_bytes(value)
