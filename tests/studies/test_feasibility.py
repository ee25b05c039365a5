"""How evenly networks choose, by hand."""

from __future__ import annotations

import math

import pytest

from medsearch.studies.feasibility import entropy


@pytest.mark.parametrize(
    ("chosen", "options", "expected"),
    [
        (["a", "a", "b", "b"], 2, 1.0),
        (["a", "a", "b", "b"], 4, 0.5),
        (["a", "a", "a", "b"], 2, 0.75 * math.log2(4 / 3) + 0.25 * 2),
        (["a"], 3, 0.0),
    ],
)
def test_entropy_is_a_share_of_the_largest_possible(chosen: list[str], options: int, expected: float) -> None:
    assert entropy(chosen, options) == pytest.approx(expected)


def test_nothing_chosen_or_nothing_to_choose_has_none() -> None:
    assert math.isnan(entropy([], 3)) and math.isnan(entropy(["a"], 1))
