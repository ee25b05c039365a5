"""The correction of sums: what it recovers, how it shrinks, and how often its interval holds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medsearch.measurement.latency.residual import ResidualModel, fit, with_repeats


def made(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, two features, and times that are 1.2 times the sum, times e^(0.4 f1 - 0.2 f2), times noise."""
    rng = np.random.default_rng(seed)
    totals, features = rng.uniform(1, 10, count), rng.uniform(-1, 1, (count, 2))
    log_ratio = math.log(1.2) + features @ [0.4, -0.2] + rng.normal(0, noise, count)
    return totals, features, totals * np.exp(log_ratio)


def test_what_features_explain_is_found() -> None:
    found = fit(*made(60, noise=0.0))
    totals, features, times = made(20, noise=0.0, seed=1)
    for total, row, time in zip(totals, features, times, strict=True):
        assert found.apply(total, row, "ms").value == pytest.approx(time, rel=0.01)


def test_what_features_do_not_explain_leaves_one_factor() -> None:
    totals, _, times = made(12, noise=0.05)
    plain = totals * 1.3
    found = fit(totals, np.zeros((12, 2)), plain)
    assert found.apply(2.0, (0.0, 0.0), "ms").value == pytest.approx(2.6)
    assert found.spread == pytest.approx(0.0, abs=1e-12)
    assert fit(totals, np.zeros((12, 0)), times).weights == ()


def test_one_network_gives_its_ratio_and_none_gives_the_sum() -> None:
    assert fit([2.0], [[1.0]], [3.0]).apply(4.0, [7.0], "ms").value == pytest.approx(6.0)
    assert fit([], [], []) == ResidualModel()


def test_the_interval_holds_as_often_as_it_says() -> None:
    held = []
    for seed in range(20):
        found = fit(*made(40, noise=0.05, seed=seed))
        totals, features, times = made(50, noise=0.05, seed=1000 + seed)
        for total, row, time in zip(totals, features, times, strict=True):
            estimate = found.apply(total, row, "ms")
            held.append(estimate.low <= time <= estimate.high)
    # 1,000 networks: 95 % with a standard error of 0.7 %, and the spread of each fit on top.
    assert 0.92 <= np.mean(held) <= 0.99


def test_single_measurements_have_a_wider_interval_than_what_they_agree_on() -> None:
    """Worked out: left out, each of the two networks is predicted by the other, so their errors are +-log 2."""
    residual = fit([1.0, 1.0], [[], []], [1.0, 2.0])
    assert residual.errors == pytest.approx((-math.log(2), math.log(2)))
    wider = with_repeats(residual, [1.0, 2.0], [[1.0, 0.5], [2.0, 3.0]])
    assert wider.errors == pytest.approx((-math.log(2), -math.log(4), math.log(2), math.log(3)))
    assert wider.spread == pytest.approx(1.25 * math.log(4))  # beyond a sample of four: a quarter above the largest
    assert (wider.constant, wider.weights) == (residual.constant, residual.weights)
