"""The report on memory predictions: resumable, and honest about what it had seen."""

from __future__ import annotations

import random
from pathlib import Path

from medsearch.core.files import read_rows
from medsearch.spaces import load_space
from medsearch.studies.memory import MemoryCase, memory_report, predictions, summary

CASES = tuple(
    MemoryCase(space="hybrid2d-tiny", task="classification", size=(12, 12), batch=4, precision=precision)
    for precision in ("fp32", "bf16")
)


def test_a_report_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "memory.csv"
    memory_report(networks=1, out=out, cases=CASES[:1], trace=False)
    first = read_rows(out)
    assert len(first) == 1
    found = memory_report(networks=2, out=out, cases=CASES, trace=False)
    again = memory_report(networks=2, out=out, cases=CASES, trace=False)
    rows = read_rows(out)
    assert rows[0] == first[0] and len(rows) == 2 and again == found
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]
    assert found[0]["networks"] == 2 and found[0]["largest %"] < 10


def test_a_summary_counts_what_the_upper_bounds_cover() -> None:
    sizes = [(100, 110, 105), (100, 110, 115), (100, 110, ""), (200, 220, 200)]
    fields = ("predicted_bytes", "upper_bytes", "measured_bytes")
    rows = [{"device": "cpu", "traced_bytes": "", **dict(zip(fields, size, strict=True))} for size in sizes]
    found = summary([row for row in rows if row["measured_bytes"]])
    assert len(found) == 1 and found[0]["networks"] == 3
    # Errors of 4.8, 13 and 0 percent; two of three stay below their bound.
    assert (found[0]["median off by %"], found[0]["largest %"]) == (4.76, 13.04)
    assert found[0]["upper bound covers %"] == 66.7


def test_what_is_larger_than_the_machine_is_predicted_without_being_run() -> None:
    case = MemoryCase(
        space="hybrid2d-tiny", task="segmentation", size=(1024, 1024), batch=64, precision="bf16", channels=3
    )
    genotype = load_space("hybrid2d-tiny", task="segmentation").sample(random.Random(0))
    row = predictions([genotype], case, measure=False)[0]
    assert row["measured_bytes"] == "" and row["predicted_bytes"] > 3e10
    assert 0.9 <= row["predicted_bytes"] / row["traced_bytes"] <= 1.1
