"""How predictions are judged, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from medsearch.studies.doctor import FIELDS, summaries


def row(number: int, *, predicted: float, measured: float) -> dict[str, Any]:
    """A network of ``number`` million multiply-adds, its memory predicted exactly, its latency as given."""
    latency = dict.fromkeys(("latency_sum", "latency_predicted", "latency_low", "latency_high"), predicted)
    memory = {"memory_predicted": number, "memory_measured": number}
    known = {"id": str(number), "mixers": "", "parameters": 1, "macs": 1e6 * number, "latency_measured": measured}
    return {name: {**known, **latency, **memory}[name] for name in FIELDS}


def rank_correlations(predicted: Sequence[float], measured: Sequence[float]) -> tuple[Any, Any]:
    """Of memory, and of latency."""
    pairs = zip(predicted, measured, strict=True)
    found = summaries([row(number, predicted=p, measured=m) for number, (p, m) in enumerate(pairs, 1)])
    return found[0]["rank correlation"], found[1]["rank correlation"]


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([1.0, 2.0, 3.0, 40.0], 1.0),
        ([4.0, 3.0, 2.0, 1.0], -1.0),
        # Squared differences of the ranks 1, 1, 0, 0: 1 - 6 * 2 / (4 * 15).
        ([2.0, 1.0, 3.0, 4.0], 0.8),
        # Two alike share rank 1.5: the covariance of ranks is 4.5, their squared sizes are 4.5 and 5.
        ([1.0, 1.0, 3.0, 4.0], round(4.5 / (4.5 * 5) ** 0.5, 4)),
        ([1.0, 1.0, 1.0, 1.0], ""),
    ],
)
def test_rank_correlation_with_and_without_equal_values(predicted: list[float], expected: float | str) -> None:
    assert rank_correlations(predicted, [1.0, 2.0, 3.0, 4.0]) == (1.0, expected)


def test_one_network_has_no_rank_correlation() -> None:
    assert rank_correlations([1.0], [2.0]) == ("", "")
