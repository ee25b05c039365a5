"""Limits: what is over, by how much, and what people are told when nothing can fit."""

from __future__ import annotations

import pytest

from medsearch.core.errors import BudgetError
from medsearch.measure.budget import Budget, Costs, show
from medsearch.measure.estimate import Estimate


def costs(memory: float, latency: float, parameters: float = 1e6, *, doubt: float = 0.0) -> Costs:
    def about(value: float, unit: str) -> Estimate:
        low, high = value * (1 - doubt), value * (1 + doubt)
        return Estimate(value=value, low=low, high=high, unit=unit, how="predicted")

    return Costs(
        parameters=Estimate.exact(parameters, "parameters"),
        macs=Estimate.exact(5e6, "MAC"),
        memory=about(memory, "bytes"),
        latency=about(latency, "ms"),
    )


BOTH = Budget(memory=1e9, latency=20.0)


def test_only_limits_that_are_set_count() -> None:
    assert BOTH.limits() == {"memory": 1e9, "latency": 20.0}
    assert Budget().limits() == {} and Budget().over(costs(1e12, 1e6)) == []
    assert Budget().excess(costs(1e12, 1e6)) < 0
    assert Budget(parameters=5e5).over(costs(1.0, 1.0)) == ["parameters"]


def test_the_excess_is_that_of_the_limit_most_overdrawn() -> None:
    assert BOTH.excess(costs(1.1e9, 30.0)) == pytest.approx(0.5)
    assert BOTH.excess(costs(1.3e9, 10.0)) == pytest.approx(0.3)
    assert BOTH.excess(costs(0.9e9, 10.0)) == pytest.approx(-0.1)
    assert BOTH.over(costs(1.1e9, 30.0)) == ["memory", "latency"]
    assert BOTH.over(costs(0.9e9, 30.0)) == ["latency"]


def test_a_limit_is_kept_to_the_last_unit() -> None:
    assert (BOTH.excess(costs(1e9, 20.0)), BOTH.over(costs(1e9, 20.0))) == (0.0, [])
    assert BOTH.excess(costs(1e9 + 1, 20.0)) > 0 and BOTH.over(costs(1e9 + 1, 20.0)) == ["memory"]


def test_doubt_counts_against_a_network() -> None:
    assert BOTH.over(costs(0.95e9, 10.0)) == []
    assert BOTH.over(costs(0.95e9, 10.0, doubt=0.1)) == ["memory"]
    assert BOTH.excess(costs(0.95e9, 10.0, doubt=0.1)) == pytest.approx(0.045)


def test_a_budget_that_something_keeps_passes() -> None:
    BOTH.require({"memory": costs(0.5e9, 99.0), "latency": costs(9e9, 19.0)}.__getitem__, where="space 'x'")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            Budget(memory=1e8, latency=20.0),
            "--budget-mem: no network of space 'x' fits 100 MB: the smallest needs 220 MB.\n"
            "  Give at least 231 MB, or choose a smaller space, batch or image size.",
        ),
        (
            Budget(memory=1e9, latency=2.0),
            "--budget-latency: no network of space 'x' fits 2 ms: the smallest needs 3.3 ms.\n"
            "  Give at least 3.47 ms, or choose a smaller space, batch or image size.",
        ),
        (
            Budget(parameters=300),
            "--budget-params: no network of space 'x' fits 300: the smallest needs 40 k.\n"
            "  Give at least 42 k, or choose a smaller space, batch or image size.",
        ),
    ],
)
def test_a_budget_that_nothing_keeps_is_refused_with_the_least_there_is(budget: Budget, message: str) -> None:
    # The least of each cost is that of another network, and counts with its doubt: 200 MB and 3 ms, and 10 % on top.
    least = {
        "memory": costs(2e8, 50.0, 9e4, doubt=0.1),
        "latency": costs(8e8, 3.0, 9e4, doubt=0.1),
        "parameters": costs(9e9, 90.0, 4e4),
    }
    with pytest.raises(BudgetError) as caught:
        budget.require(least.__getitem__, where="space 'x'")
    assert str(caught.value) == message


def test_costs_are_shown_with_their_units_and_stored_with_their_intervals() -> None:
    shown = [show(name, value) for name, value in [("memory", 1.25e9), ("latency", 3.456), ("parameters", 28589128)]]
    assert shown == ["1.25 GB", "3.46 ms", "28.6 M"]
    data = costs(1e9, 20.0, doubt=0.25).to_data()
    assert list(data) == ["parameters", "macs", "memory", "latency"]
    assert data["latency"] == {"value": 20.0, "low": 15.0, "high": 25.0, "unit": "ms", "how": "predicted"}
    assert data["macs"] == {"value": 5e6, "low": 5e6, "high": 5e6, "unit": "MAC", "how": "analytic"}
