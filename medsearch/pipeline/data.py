"""``medsearch data check``: what a data set holds, and what is wrong with it."""

from __future__ import annotations

from typing import Any

from medsearch.data import check, load


def check_data(source: str | None, *, task: str | None) -> list[dict[str, Any]]:
    """Findings, worst first, after a line of what the set is."""
    data = load(source, task=task)
    counts = ", ".join(f"{len(split)} {name}" for name, split in (("train", data.train), ("val", data.val)))
    size = "x".join(map(str, data.size))
    about = f"{data.name}: {data.task}, {size}, {data.channels} channels, {len(data.classes)} classes; {counts}"
    rows = [{"level": finding.level, "message": finding.message} for finding in check(data)]
    return [{"level": "info", "message": about}, *rows]
