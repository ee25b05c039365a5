"""Parts that nothing is known of: rates from real profiles hold what those timed, and whole networks correct them."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from medsearch.backbones import Interface
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.correction import LatencyCorrection, fitted
from medsearch.measurement.latency.prior import ELSEWHERE, Prior, Rates, read_prior, shipped, worker
from medsearch.measurement.latency.residual import ResidualModel
from medsearch.measurement.latency.table import PartKey, from_data
from medsearch.measurement.model import KINDS, Conditions, CostModel, Milliseconds
from medsearch.spaces import load_space
from medsearch.studies.prior import rates

ROOT = Path(__file__).parents[3]
PROFILES = sorted((ROOT / "reports" / "budgets").glob("profile-*.json"))
TARGET = "onnxruntime-cpu"


def place(group: str, key: str, work: float) -> PartKey:
    return PartKey(key=key, group=group, variant=group, work=work)


def test_what_travels_is_what_the_command_makes_of_the_profiles() -> None:
    made = json.loads(json.dumps(rates(json.loads(path.read_text()) for path in PROFILES)))
    prior, other = shipped(TARGET, "AVX512"), read_prior(made)
    assert prior is not None and set(prior.parts) == set(other.parts) and set(prior.kinds) == set(other.kinds)
    for name, found in other.parts.items():
        assert vars(prior.parts[name]) == pytest.approx(vars(found), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_most_timed_parts_lie_within_their_interval(path: Path) -> None:
    """Those of an interval of 95 % of parts that a fit has not seen; by kind alone no fewer."""
    prior, data = shipped(TARGET, "AVX512"), json.loads(path.read_text())
    assert prior is not None
    inside, timings = 0, from_data(data["timings"]).timings.values()
    for timing in timings:
        runs, doubt = prior.of(timing.part_key, "frame")
        seen = max(timing.ms / data["pace_ms"], 0.002)
        inside += abs(math.log(seen / runs)) <= doubt
    assert inside >= 0.95 * len(timings)


def test_a_class_that_was_never_timed_counts_as_its_kind_and_other_instructions_are_doubted() -> None:
    prior, elsewhere = shipped(TARGET, "AVX512"), shipped(TARGET, "NEON")
    assert prior is not None and elsewhere is not None
    assert {f"{kind} {dims}D" for kind in KINDS for dims in (2, 3)} <= set(prior.kinds)
    own = place("ResidualBlock(Mlp()) @ 8x8", "ResidualBlock(...) @ 16x8x8", 1e6)
    strange = place("ResidualBlock(Mine()) @ 8x8", "ResidualBlock(...) @ 16x8x8", 1e6)
    assert (worker(own), worker(strange), worker(place("ConvStem() @ 8x8", "", 1.0))) == ("Mlp", "Mine", "ConvStem")
    assert prior.of(strange, "conv")[0] == prior.kinds["conv 2D"].of(strange)
    assert elsewhere.of(own, "channel") == (prior.of(own, "channel")[0], prior.of(own, "channel")[1] + ELSEWHERE)
    assert shipped("another-target", "AVX512") is None


def test_rates_add_up_by_hand() -> None:
    # 3 for the entry, 0.5 for each of 2 * 4 * 4 numbers, 0.01 for each of 100 multiply-adds: 3 + 16 + 1 = 20.
    rate = Rates(entry=3.0, number=0.5, work=0.01, doubt=0.1)
    assert rate.of(place("x", "X() @ 2x4x4", 100.0)) == pytest.approx(20.0)


def test_a_network_is_predicted_without_timing_and_better_where_parts_were_timed(tmp_path: Path) -> None:
    space, profile = load_space("hybrid2d-tiny", task="classification"), Profile(threads=1, folder=tmp_path)
    profile.pace = 1.0
    kind = Rates(entry=1.0, number=0.0, work=0.0, doubt=math.log(2.0))
    prior = Prior(
        parts={}, kinds={f"{name} 2D": kind for name in KINDS}, overhead=0.5, whole=ResidualModel(spread=math.log(1.5))
    )
    cost = CostModel(
        Interface(task="classification", channels=1, outputs=2),
        Conditions(size=(32, 32), batch=2, precision="fp32"),
        profile,
        names=["latency"],
        prior=prior,
    )
    genotype = space.sample(random.Random(0))
    spent, parts = cost.milliseconds(genotype), cost.parts_count(genotype)
    assert (spent.timed, spent.untimed) == (0.5, float(parts))
    assert (spent.low, spent.high) == (pytest.approx(parts / 2), pytest.approx(parts * 2))
    found = LatencyCorrection(residual=prior.whole).apply(spent, "ms")
    assert found.value == pytest.approx(parts + 0.5)
    assert (found.low, found.high) == (
        pytest.approx((parts / 2 + 0.5) / 1.5),
        pytest.approx((parts * 2 + 0.5) * 1.5),
    )
    assert profile.table.timings == {} and profile.overhead is None


def spent(timed: float, untimed: float) -> Milliseconds:
    return Milliseconds(timed, untimed, untimed / 4, untimed * 4, (0.0,))


def test_networks_with_untimed_parts_correct_the_prior_by_one_factor() -> None:
    # Without residual, 12 ms measured of 2 timed and 5 by the prior: these take 10, twice as long as it says.
    before = ResidualModel(spread=0.2)
    found, _ = fitted([spent(2.0, 5.0)], [12.0], None, before=before)
    assert found.untimed == pytest.approx(math.log(2.0)) and found.residual == before
    assert found.doubt == pytest.approx(1 / math.sqrt(2))
    after: Estimate = found.apply(spent(2.0, 5.0), "ms")
    assert after.value == pytest.approx(12.0)
    wide = LatencyCorrection(residual=before).apply(spent(2.0, 5.0), "ms")
    assert after.high / after.value < wide.high / wide.value
    apart, _ = fitted([spent(0.0, 1.0), spent(0.0, 1.0)], [1.0, 16.0], None, before=before)
    assert apart.doubt >= 1.0, "networks that do not agree leave all of the doubt"


def test_networks_whose_parts_were_timed_take_the_doubt_of_other_devices_away_slowly() -> None:
    before = ResidualModel(constant=-0.1, spread=0.3)
    found, predicted = fitted([spent(2.0, 0.0)] * 3, [2.0] * 3, None, before=before)
    assert found.residual.constant == pytest.approx(0.0)
    assert found.residual.spread == pytest.approx(0.3 / 2)
    assert predicted == pytest.approx([2.0] * 3)
    nothing, none = fitted([], [], None, before=before)
    assert nothing.residual == before and list(none) == []
