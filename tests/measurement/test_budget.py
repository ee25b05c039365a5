"""Limits: what is over, by how much, and what people are told when nothing can fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from medsearch.core.errors import BudgetError
from medsearch.measurement.budget import Budget, Costs, show
from medsearch.measurement.estimate import Estimate


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


ALL = Budget(memory=1e9, latency=20.0, parameters=2e6, inference=1e8, macs=1e7, file=8e6)


def full(**values: float) -> Costs:
    """Costs that keep every limit of ``ALL``, but for ``values``."""
    within = {"memory": 9e8, "latency": 10.0, "parameters": 1e6, "inference": 5e7, "macs": 5e6, "file": 5e6}
    return Costs(**{name: Estimate.exact(value, "") for name, value in {**within, **values}.items()})


def test_every_cost_can_be_limited_and_all_at_once() -> None:
    assert ALL.violation(full()) == pytest.approx(-0.1) and ALL.over(full()) == []
    for name, limit in ALL.items():
        assert ALL.over(full(**{name: 1.5 * limit})) == [name]
        assert ALL.violation(full(**{name: 1.5 * limit})) == pytest.approx(0.5)
    assert ALL.over(full(memory=2e9, file=9e6)) == ["memory", "file"]


def test_a_limit_on_what_nobody_knows_is_not_kept() -> None:
    unknown = costs(1.0, 1.0)
    assert Budget(file=1e12).over(unknown) == ["file"] and Budget(inference=1e12).violation(unknown) > 0
    assert "file" not in unknown.to_data() and "file" in full().to_data()


def least(networks: list[Costs]) -> Callable[[Callable[[Costs], float]], Costs]:
    return lambda value: min(networks, key=value)


def refused(require: Callable[[], None]) -> str:
    """Why, or nothing."""
    try:
        require()
    except BudgetError as error:
        return str(error)
    return ""


def test_limits_that_one_network_keeps_together_pass() -> None:
    some = least([full(memory=2e9), full(), full(latency=99.0)])
    assert refused(lambda: ALL.require_all(some, where="space 'x'")) == ""
    assert refused(lambda: Budget().require_all(least([full()]), where="space 'x'")) == ""
    assert refused(lambda: ALL.require_all(least([full(memory=2e9)]), where="space 'x'")) != ""


def test_a_limit_that_nothing_keeps_alone_is_named_first() -> None:
    with pytest.raises(BudgetError) as caught:
        ALL.require_all(least([full(file=9e6), full(file=9.5e6, memory=2e9)]), where="space 'x'")
    assert str(caught.value) == (
        "--budget-file: no network of space 'x' fits 8 MB: the smallest needs 9 MB.\n"
        "  Give at least 9.45 MB, or choose a smaller space, batch or image size."
    )


def test_limits_that_only_different_networks_keep_name_the_one_that_binds() -> None:
    # Each limit is kept by one of them.  Beside the latency, memory must be 1.2 times its limit; beside the memory,
    # latency 1.5 times: memory is what binds.
    quick, slim = full(memory=1.2e9), full(latency=30.0)
    worse = [full(memory=1.3e9), full(latency=40.0), full(memory=1.1e9, latency=25.0)]
    with pytest.raises(BudgetError) as caught:
        Budget(memory=1e9, latency=20.0).require_all(least([*worse, quick, slim]), where="space 'x'")
    assert str(caught.value) == (
        "--budget-mem: no network of space 'x' fits 1 GB, 20 ms together: beside the other limits, the smallest needs "
        "1.2 GB.\n"
        "  Give at least --budget-mem 1.26 GB or --budget-latency 31.5 ms, "
        "or choose a smaller space, batch or image size."
    )


def test_three_limits_of_which_two_must_give_say_so() -> None:
    budget = Budget(memory=1e9, latency=20.0, file=8e6)
    networks = [full(memory=2e9, latency=30.0), full(latency=30.0, file=9e6), full(memory=2e9, file=9e6)]
    with pytest.raises(BudgetError, match="even without one of them.*\n.*more than one"):
        budget.require_all(least(networks), where="space 'x'")


def test_only_limits_that_are_set_count() -> None:
    assert dict(BOTH) == {"memory": 1e9, "latency": 20.0}
    assert not Budget() and Budget().over(costs(1e12, 1e6)) == []
    assert Budget().violation(costs(1e12, 1e6)) < 0
    assert Budget(parameters=5e5).over(costs(1.0, 1.0)) == ["parameters"]


def test_the_excess_is_that_of_the_limit_most_overdrawn() -> None:
    assert BOTH.violation(costs(1.1e9, 30.0)) == pytest.approx(0.5)
    assert BOTH.violation(costs(1.3e9, 10.0)) == pytest.approx(0.3)
    assert BOTH.violation(costs(0.9e9, 10.0)) == pytest.approx(-0.1)
    assert BOTH.over(costs(1.1e9, 30.0)) == ["memory", "latency"]
    assert BOTH.over(costs(0.9e9, 30.0)) == ["latency"]


def test_a_limit_is_kept_to_the_last_unit() -> None:
    assert (BOTH.violation(costs(1e9, 20.0)), BOTH.over(costs(1e9, 20.0))) == (0.0, [])
    assert BOTH.violation(costs(1e9 + 1, 20.0)) > 0 and BOTH.over(costs(1e9 + 1, 20.0)) == ["memory"]


def test_doubt_counts_against_a_network() -> None:
    assert BOTH.over(costs(0.95e9, 10.0)) == []
    assert BOTH.over(costs(0.95e9, 10.0, doubt=0.1)) == ["memory"]
    assert BOTH.violation(costs(0.95e9, 10.0, doubt=0.1)) == pytest.approx(0.045)


def test_a_budget_that_something_keeps_passes() -> None:
    smallest = {"memory": costs(0.5e9, 99.0), "latency": costs(9e9, 19.0)}
    assert refused(lambda: BOTH.require(smallest.__getitem__, where="space 'x'")) == ""


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
    assert [show(name, 4.5e9) for name in ("inference", "file", "macs")] == ["4.5 GB", "4.5 GB", "4.5 G"]
    data = costs(1e9, 20.0, doubt=0.25).to_data()
    assert list(data) == ["parameters", "macs", "memory", "latency"]
    assert data["latency"] == {"value": 20.0, "low": 15.0, "high": 25.0, "unit": "ms", "how": "predicted"}
    assert data["macs"] == {"value": 5e6, "low": 5e6, "high": 5e6, "unit": "MAC", "how": "analytic"}
