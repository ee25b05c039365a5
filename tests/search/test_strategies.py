"""Every strategy: a pure function of space, history and seed, into the space; and the plain networks before it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from medsearch.search import STRATEGIES, Trial
from medsearch.search.initial_designs import initial_designs
from medsearch.spaces import Space

Make = Callable[..., Any]


@pytest.fixture(params=list(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Any:
    return STRATEGIES[request.param]()


@pytest.fixture
def history(space: Space, trial: Make) -> list[Trial]:
    """Forty random trials, every eighth of them failed and every tenth stopped."""
    rng = random.Random(0)
    trials = []
    for number in range(40):
        state = "failed" if number % 8 == 3 else "stopped" if number % 10 == 7 else "complete"
        found = trial(space.sample(rng), number=number, state=state)
        trials.append(found if state != "failed" else Trial(**{**vars(found), "objectives": None}))
    return trials


@pytest.mark.parametrize("length", [0, 1, 12, 40])
def test_proposes_members_of_the_space_and_the_same_for_a_seed(
    strategy: Any, space: Space, history: list[Trial], length: int
) -> None:
    drawn = [strategy(space, history[:length], seed) for seed in range(6)]
    assert drawn == [strategy(space, list(history[:length]), seed) for seed in range(6)]
    assert [space.decode(space.encode(genotype)) for genotype in drawn] == drawn


def test_seeds_differ_as_long_as_nothing_is_known(strategy: Any, space: Space) -> None:
    assert len({strategy(space, [], seed) for seed in range(6)}) > 3


def test_searches_a_space_without_a_choice(strategy: Any, a_space: Make, trial: Make) -> None:
    space = a_space(stages=[{"dim": 8, "mixer": "dwconv", "channel": "mlp"}])
    assert strategy(space, [trial(space.first(), space=space)] * 20, 0) == space.first()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "random"])
def test_learns_from_the_history_what_is_good(name: str, space: Space, history: list[Trial], trial: Make) -> None:
    """Networks with attention have half the error at no cost; a strategy that learns proposes more of them."""

    def graded(one: Trial) -> Trial:
        attention = one.genotype.mixers.count("linear_attention")
        return trial(one.genotype, number=one.number, objectives=(0.5 - 0.2 * attention + 1e-4 * one.number, 1.0, 1.0))

    def share(past: list[Trial]) -> float:
        drawn = [STRATEGIES[name]()(space, past, seed) for seed in range(20)]
        return sum(genotype.mixers.count("linear_attention") for genotype in drawn) / 40

    assert share([graded(one) for one in history]) > share([]) + 0.15


def test_anchors_are_distinct_members_one_for_every_mixer(space: Space) -> None:
    """Three mixers alone, and MLP before attention; two stages leave no place for a convolution between them."""
    found = list(initial_designs(space))
    assert len(set(found)) == len(found) == 4
    assert [space.decode(space.encode(genotype)) for genotype in found] == found
    assert [genotype.mixers for genotype in found] == [
        ("dwconv", "dwconv"),
        ("block_gmlp", "linear_attention"),
        ("linear_attention", "linear_attention"),
        ("block_gmlp", "block_gmlp"),
    ]
    assert {stage.dim for genotype in found for stage in genotype.stages} == {16}


def test_a_space_of_one_mixer_has_one_anchor_and_a_fixed_one_none(a_space: Make) -> None:
    stage = {"dim": {"choice": [8, 16, 32]}, "channel": "mlp"}
    only = a_space(stages=[{**stage, "mixer": {"choice": ["dwconv"]}}])
    assert [genotype.mixers for genotype in initial_designs(only)] == [("dwconv",)]
    assert list(initial_designs(a_space(stages=[{**stage, "mixer": "dwconv"}]))) == []


def test_stages_that_lack_a_mixer_keep_their_middle_one(a_space: Make) -> None:
    stages = [
        {"dim": 8, "channel": "mlp", "mixer": {"choice": ["dwconv", "linear_attention"]}},
        {"dim": 8, "channel": "mlp", "mixer": {"choice": ["dwconv"]}},
    ]
    assert [genotype.mixers for genotype in initial_designs(a_space(stages=stages))] == [
        ("dwconv", "dwconv"),
        ("linear_attention", "dwconv"),
    ]
