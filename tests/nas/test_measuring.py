"""What a prediction leaves open is measured before it becomes a trial, and each network is tried in its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medsearch.measurement.budget import Budget, Costs
from medsearch.measurement.estimate import Estimate
from medsearch.nas import STRATEGIES, Store, Trial, choose
from medsearch.spaces import Genotype
from medsearch.testing.strategies import toy_space as read_toy

Make = Callable[..., Any]

LIMIT = Budget(latency=24.0)
"""24 channels are predicted to take 21.6 to 26.4 ms, 16 at most 17.6, 32 at least 28.8."""


def until(count: int) -> Callable[[Sequence[Trial]], bool]:
    return lambda history: len(history) >= count


def channels(genotype: Genotype) -> int:
    return sum(stage.dim for stage in genotype.stages)


class Measuring:
    """Says that a network takes ``factor`` ms a channel, and notes who was asked for."""

    def __init__(self, cost: Callable[[Genotype], Costs], factor: float) -> None:
        self.cost, self.factor = cost, factor
        self.asked: list[Genotype] = []

    def __call__(self, genotype: Genotype, names: Sequence[str]) -> Costs:
        assert list(names) == ["latency"]
        self.asked.append(genotype)
        latency = Estimate.exact(self.factor * channels(genotype), "ms", "measured")
        return self.cost(genotype) | {"latency": latency}


@pytest.mark.parametrize(("factor", "widest"), [(0.95, 24), (1.05, 16)])
def test_what_may_fit_is_a_trial_only_if_it_fits_when_measured(search: Make, factor: float, widest: int) -> None:
    found = search(budget=LIMIT)
    measure = found.measure = Measuring(found.cost, factor)
    trials = list(found.run(until=until(12)))
    assert len(trials) == 12
    assert max(channels(trial.genotype) for trial in trials) == widest
    assert {channels(genotype) for genotype in measure.asked} == {24}
    assert len(measure.asked) == len(set(measure.asked)), "what was measured is not measured again"


def test_the_measured_cost_replaces_the_predicted_one(search: Make) -> None:
    found = search(budget=LIMIT)
    found.measure = Measuring(found.cost, 0.95)
    trials = [trial for trial in found.run(until=until(12)) if channels(trial.genotype) == 24]
    assert trials
    for trial in trials:
        assert trial.facts["costs"]["latency"]["how"] == "measured"
        assert trial.objectives is not None
        assert trial.objectives[1] == pytest.approx(0.95 * 24)
        assert found.violation(trial.genotype) == pytest.approx(0.95 - 1)


def test_what_surely_fits_or_surely_does_not_is_not_measured(search: Make) -> None:
    found = search(budget=Budget(latency=50.0, parameters=40_000))
    measure = found.measure = Measuring(found.cost, 1.0)
    assert len(list(found.run(until=until(8)))) == 8
    assert measure.asked == []  # 40 channels take at most 44 ms, 48 have too many parameters


def test_each_network_is_tried_in_its_own_way_which_is_noted(search: Make, score: Make) -> None:
    def evaluator(genotype: Genotype, rung: int) -> Callable[..., Any]:
        return lambda same: replace(score(same), seconds=float(channels(genotype)))

    found = search(evaluator=evaluator, facts=lambda genotype: {"way": {"batch": channels(genotype)}})
    for trial in found.run(until=until(5)):
        assert trial.facts["way"]["batch"] == trial.facts["seconds"] == channels(trial.genotype)
        assert trial.facts["costs"]["memory"]["value"] == 1e6 * channels(trial.genotype)


class Counting:
    """Measures a cost that is never predicted: one a channel."""

    def __init__(self, cost: Callable[[Genotype], Costs]) -> None:
        self.cost = cost
        self.asked: list[Sequence[str]] = []

    def __call__(self, genotype: Genotype, names: Sequence[str]) -> Costs:
        self.asked.append(names)
        return self.cost(genotype) | {"file": Estimate.exact(channels(genotype), "bytes", "measured")}


def test_a_limit_on_what_is_never_predicted_is_kept_by_measuring(search: Make) -> None:
    found = search(budget=Budget(file=24.0))
    found.measure = Counting(found.cost)
    trials = list(found.run(until=until(12)))
    assert len(trials) == 12
    assert max(channels(trial.genotype) for trial in trials) == 24
    assert all(trial.facts["costs"]["file"]["how"] == "measured" for trial in trials)


def test_a_limit_on_what_is_neither_predicted_nor_measured_is_kept_by_nothing(search: Make) -> None:
    found = search(budget=Budget(file=24.0))
    assert list(found.run(until=until(1))) == []
    found.measure = lambda genotype, names: found.cost(genotype)
    assert list(found.run(until=until(1))) == []


def test_an_objective_that_is_never_predicted_is_measured_before_the_trial(search: Make, tmp_path: Path) -> None:
    objectives = ("file", "macs", "memory")
    store = Store(f"sqlite:///{tmp_path / 'three.db'}", read_toy(), objectives=objectives)
    found = search(objectives=objectives, store=store)
    measure = found.measure = Counting(found.cost)
    trials = list(found.run(until=until(12)))
    assert len(trials) == 12
    assert {tuple(names) for names in measure.asked} == {("file",)}
    for trial in trials:
        assert trial.objectives is not None
        wide = channels(trial.genotype)
        assert trial.objectives[1:] == (wide, wide, 1e6 * wide)
        assert list(trial.facts["costs"])[:3] == list(objectives)


def test_one_cost_beside_the_error_is_enough_for_every_strategy(search: Make, tmp_path: Path) -> None:
    for name in STRATEGIES:
        store = Store(f"sqlite:///{tmp_path / name}.db", read_toy(), objectives=("macs",))
        found = search(objectives=("macs",), store=store, strategy=STRATEGIES[name]())
        trials = list(found.run(until=until(24)))
        assert len(trials) == 24 and {len(trial.objectives or ()) for trial in trials} == {2}
        assert choose(trials, 2)
