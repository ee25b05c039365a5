"""Genes as Optuna sees them: which are ordered, and that whatever is proposed is an option."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from medsearch.nas.distributions import is_ordered, place, recorded, sampled, suggest

EVEN, UNEVEN, FALLING, FRACTIONS, MIXED = [16, 24, 32], [64, 96, 256], [7, 5, 3], [0.1, 0.25, 1e-6], [1, 1.5, 4]
ORDERED = [EVEN, UNEVEN, FALLING, FRACTIONS, MIXED, [8], [0, 4]]
NAMES, SWITCH, KERNELS, SCALES = ["dwconv", "gnconv"], [False, True], [3, "1x5x5"], [None, 1e-6]
CATEGORIES = [NAMES, SWITCH, KERNELS, SCALES, [1, float("inf")]]


@pytest.mark.parametrize("options", ORDERED, ids=str)
def test_numbers_are_drawn_by_their_place(options: list[Any]) -> None:
    assert is_ordered(options) and sampled(options) == IntDistribution(0, len(options) - 1)
    assert [place(option, options) for option in sorted(options)] == list(range(len(options)))


@pytest.mark.parametrize("options", CATEGORIES, ids=str)
def test_everything_else_is_a_category(options: list[Any]) -> None:
    assert not is_ordered(options)
    assert sampled(options) == recorded(options) == CategoricalDistribution(options)


@pytest.mark.parametrize("options", [*ORDERED, NAMES, SWITCH, KERNELS, SCALES], ids=str)
def test_an_option_comes_back_from_its_place(options: list[Any]) -> None:
    assert [suggest(FixedTrial({"gene": place(option, options)}), "gene", options) for option in options] == options


def test_uneven_steps_are_equally_likely() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = Counter(suggest(study.ask(), "gene", UNEVEN) for _ in range(300))
    assert set(drawn) == set(UNEVEN) and min(drawn.values()) > 75


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (EVEN, IntDistribution(16, 32, step=8)),
        (UNEVEN, IntDistribution(64, 256, step=32)),
        (FALLING, IntDistribution(3, 7, step=2)),
        ([8], IntDistribution(8, 8)),
        (FRACTIONS, FloatDistribution(1e-6, 0.25)),
        (MIXED, FloatDistribution(1, 4)),
    ],
    ids=str,
)
def test_a_record_holds_the_numbers_themselves(options: list[Any], expected: Any) -> None:
    found = recorded(options)
    assert found == expected
    stored = [found.to_internal_repr(option) for option in options]
    assert all(map(found._contains, stored)) and list(map(found.to_external_repr, stored)) == options
