"""Rows of plain values as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One column for every key of the first row; numbers to the right."""
    drawn = Table(box=None, pad_edge=False)
    for key, value in (rows[0] if rows else {}).items():
        drawn.add_column(key, justify="right" if isinstance(value, int | float) else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    return drawn
