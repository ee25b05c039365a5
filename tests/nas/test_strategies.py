"""Every strategy: a pure function of space, history and seed, into the space; and the plain networks before it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from medsearch.core.errors import UsageError
from medsearch.nas import STRATEGIES, Trial, read_strategy
from medsearch.nas.initial_designs import initial_designs, middle
from medsearch.nas.strategies.evolution import Evolution
from medsearch.nas.strategies.optuna import NonDominatedSorting, TreeParzen
from medsearch.nas.strategies.random import RandomSearch
from medsearch.spaces import Space
from medsearch.testing import check_strategy

Make = Callable[..., Any]


@pytest.fixture(params=list(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Any:
    return STRATEGIES[request.param]()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("tpe", TreeParzen()),
        ("tpe:startup_trials=20,multivariate=true", TreeParzen(startup_trials=20, multivariate=True)),
        ("evolution: sample_size = 3, crossover = 1", Evolution(sample_size=3, crossover=1.0)),
        ({"name": "nsga2", "population": 8, "crossover": 0.25}, NonDominatedSorting(population=8, crossover=0.25)),
        ({"name": "random"}, RandomSearch()),
    ],
)
def test_a_strategy_is_read_with_its_knobs(given: Any, expected: Any) -> None:
    assert read_strategy(given, where="--strategy") == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("magic", "--strategy: unknown search strategy 'magic'.\n  Known: evolution, nsga2, random, tpe."),
        ("tpe:startup=3", "--strategy: tpe: startup: unknown key 'startup'.\n  Did you mean 'startup_trials'?"),
        ("random:a=3", "--strategy: random: a: unknown key 'a'.\n  Known: (none)."),
        ("tpe:startup_trials=many", "tpe: startup_trials: expected a whole number, got the text 'many'."),
        ("tpe:startup_trials=2.5", "tpe: startup_trials: expected a whole number, got 2.5."),
        ("tpe:multivariate=1", "tpe: multivariate: expected true or false, got 1."),
        ("tpe:startup_trials=0", "--strategy: tpe: startup_trials must be at least 1, got 0."),
        ("nsga2:population=1", "nsga2: population must be at least 2, got 1."),
        ("evolution:crossover=1.5", "evolution: crossover must be from 0 to 1, got 1.5."),
        ("evolution:crossover=nan", "evolution: crossover: expected a number, got nan."),
        ("tpe:", "--strategy: expected knob=value after 'tpe:', got ''.\n  Write tpe:knob=value."),
        ("tpe:candidates=1,candidates=2", "--strategy: 'candidates' is there twice."),
        ("tpe:name=random", "--strategy: 'name' is there twice."),
        ({"population": 8}, "--strategy: missing name."),
        ({"name": "tpe", "startup_trials": True}, "startup_trials: expected a whole number, got true."),
    ],
)
def test_a_strategy_or_knob_that_there_is_not_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        read_strategy(given, where="--strategy")
    assert said in str(refusal.value)


@pytest.mark.parametrize("wrong", [{"population": 0}, {"sample_size": 0}, {"startup_trials": 0}, {"crossover": -0.1}])
def test_a_strategy_made_by_hand_refuses_knobs_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^evolution: {next(iter(wrong))} must be "):
        Evolution(**wrong)


@pytest.fixture
def history(space: Space, trial: Make) -> list[Trial]:
    """Forty random trials, every eighth of them failed."""
    rng = random.Random(0)
    trials = []
    for number in range(40):
        state = "failed" if number % 8 == 3 else "complete"
        found = trial(space.sample(rng), number=number, state=state)
        trials.append(found if state != "failed" else Trial(**{**vars(found), "objectives": None}))
    return trials


@pytest.mark.parametrize("name", STRATEGIES)
def test_keeps_the_contract(name: str) -> None:
    check_strategy(name)


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


def test_knobs_decide_when_a_strategy_begins_to_learn(space: Space, history: list[Trial]) -> None:
    """Until there are as many trials as the start takes, proposals do not depend on them."""
    for name in ("tpe", "evolution"):
        late, early = (read_strategy(f"{name}:startup_trials={count}", where="") for count in (50, 2))
        assert [late(space, history, seed) for seed in range(6)] == [late(space, [], seed) for seed in range(6)]
        assert [early(space, history, seed) for seed in range(6)] != [early(space, [], seed) for seed in range(6)]


@pytest.mark.parametrize("knobs", ["tpe:multivariate=true", "tpe:candidates=1", "nsga2:population=4,crossover=0.1"])
def test_knobs_change_what_is_proposed(knobs: str, space: Space, history: list[Trial]) -> None:
    plain, changed = (read_strategy(given, where="") for given in (knobs.partition(":")[0], knobs))
    drawn = [changed(space, history, seed) for seed in range(12)]
    assert drawn == [changed(space, history, seed) for seed in range(12)]
    assert drawn != [plain(space, history, seed) for seed in range(12)]
    assert [space.decode(space.encode(genotype)) for genotype in drawn] == drawn


def test_tpe_tries_what_lies_between_numbers_that_did_well(a_space: Make, trial: Make) -> None:
    """Widths 16 and 32 had half the error of 8 and 40; 24 was not tried."""
    space = a_space(stages=[{"dim": {"choice": [8, 16, 24, 32, 40]}, "mixer": "dwconv", "channel": "mlp"}])
    errors = {8: 0.6, 16: 0.3, 32: 0.3, 40: 0.6}
    tried = [(dim, space.with_option("stages.0.dim", dim)) for dim in errors]
    history = [
        trial(genotype, space=space, number=number, objectives=(errors[dim] + 1e-3 * number, 1.0, 1.0))
        for number, (dim, genotype) in enumerate(tried * 5)
    ]
    drawn = [STRATEGIES["tpe"]()(space, history, seed).stages[0].dim for seed in range(40)]
    assert drawn.count(24) > 10 and {8, 40}.isdisjoint(drawn)


def test_anchors_are_distinct_members_one_for_every_mixer(space: Space) -> None:
    """Three mixers alone, and MLP before attention; two stages leave no place for a convolution between them."""
    found = list(initial_designs(space))
    assert len(set(found)) == len(found) == 5
    assert [space.decode(space.encode(genotype)) for genotype in found] == found
    assert [genotype.mixers for genotype in found] == [
        ("dwconv", "dwconv"),
        ("dwconv", "dwconv"),
        ("block_gmlp", "linear_attention"),
        ("linear_attention", "linear_attention"),
        ("block_gmlp", "block_gmlp"),
    ]
    assert [{stage.dim for stage in genotype.stages} for genotype in found] == [{8}, {16}, {8}, {8}, {8}]
    assert middle(space) == found[1]


def test_a_space_of_one_mixer_has_one_anchor_and_a_fixed_one_none(a_space: Make) -> None:
    stage = {"dim": {"choice": [8, 16, 32]}, "channel": "mlp"}
    only = a_space(stages=[{**stage, "mixer": {"choice": ["dwconv"]}}])
    assert [genotype.mixers for genotype in initial_designs(only)] == [("dwconv",)] * 2
    assert list(initial_designs(a_space(stages=[{**stage, "mixer": "dwconv"}]))) == []


def test_stages_that_lack_a_mixer_keep_their_middle_one(a_space: Make) -> None:
    stages = [
        {"dim": 8, "channel": "mlp", "mixer": {"choice": ["dwconv", "linear_attention"]}},
        {"dim": 8, "channel": "mlp", "mixer": {"choice": ["dwconv"]}},
    ]
    assert [genotype.mixers for genotype in initial_designs(a_space(stages=stages))] == [
        ("dwconv", "dwconv"),
        ("linear_attention", "dwconv"),
    ], "there is no smaller one than the middle"
