"""Size of the file that is deployed: ONNX, or what another target runs."""

from __future__ import annotations

from medsearch.core.units import format_bytes, parse_bytes
from medsearch.measurement.costs import COSTS


@COSTS.add("file")
class File:
    """Size of the file that is deployed."""

    option = "file"
    unit = "bytes"
    example = "5MB"
    about = "size of the file that is deployed"

    def parse(self, text: str, *, where: str) -> float:
        """Bytes."""
        return parse_bytes(text, where=where)

    def show(self, value: float) -> str:
        """``1.25 GB``."""
        return format_bytes(value)
