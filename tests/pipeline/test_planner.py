"""How the time of a run is shared out: by worked examples, and by what holds for any time and any number of workers."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsearch.pipeline.planner import (
    COMPRESSION_MOST,
    COMPRESSION_SHARE,
    EPOCHS_SEARCH,
    Plan,
    plan,
    without_clock,
)

AFTER = (12.0, 2.0)
"""Seconds of one delivery, and of what comes after the last."""
times = st.floats(10, 8 * 3600)
workers = st.integers(1, 8)
finalists = st.integers(1, 5)


def made(left: float, **given: Any) -> Plan:
    return plan(**{"left": left, "spent": 0.0, "workers": 2, "finalists": 3, "ending": AFTER, **given})


def test_a_quarter_of_an_hour_on_two_processors() -> None:
    """900 s less 2 and 12 are 886 s, 1772 worker seconds: sqrt(1772 / 5) = 18.8 networks, and 1 + 5 finalists, of
    which three are wanted.  Two more deliveries leave 862 s, 1724 worker seconds, of which trials have
    0.2 + 0.3 ln(1724 / 60) / ln(30) = 0.4962.  19 networks have three rungs, which cost 19 (1 + 2 2/3) first legs.
    """
    share = 0.2 + 0.3 * math.log(1724 / 60) / math.log(30)
    found = made(900.0, spent=100.0)
    assert (found.networks, found.finalists, found.rungs, found.epochs) == (19, 3, 3, None)
    assert found.first == pytest.approx(1724 * share / (19 * 7 / 3))
    assert found.first == pytest.approx(19.30, abs=0.01)
    assert found.search_end == pytest.approx(100 + 862 * share)
    assert found.training_end == pytest.approx(962)


def test_with_half_a_minute_on_one_processor_there_are_two_networks_and_one_with_less() -> None:
    """30 - 14 = 16 s: sqrt(3.2) = 1.8; 20 - 14 = 6 s: sqrt(1.2) = 1.1, and it has all of them."""
    two, one = made(30.0, workers=1), made(20.0, workers=1)
    assert (two.networks, two.rungs, two.finalists, two.search_end) == (2, 1, 1, pytest.approx(0.2 * 16))
    assert two.first == pytest.approx(0.2 * 16 / 2)
    assert (one.networks, one.rungs, one.finalists, one.search_end, one.training_end) == (1, 1, 1, 0, 6)


@given(times, st.floats(0, 3600), workers, finalists, st.booleans())
def test_shares_add_up_and_nothing_goes_beyond_the_end(
    left: float, spent: float, workers: int, finalists: int, compress: bool
) -> None:
    found = made(left, spent=spent, workers=workers, finalists=finalists, compress=compress)
    assert found.search_end is not None and found.training_end is not None
    assert spent <= found.search_end <= found.training_end <= spent + left
    aside = min(COMPRESSION_SHARE * left, COMPRESSION_MOST) if compress else 0
    after = AFTER[1] + found.finalists * AFTER[0] + aside
    assert found.training_end == pytest.approx(spent + max(0, left - after))
    assert 1 <= found.finalists <= min(finalists, found.networks)
    assert 3 ** (found.rungs - 1.5) <= found.networks


@given(times, workers)
def test_what_all_trials_are_expected_to_take_is_what_they_have(left: float, workers: int) -> None:
    """With one third of the networks of a rung at the next one."""
    found = made(left, workers=workers)
    assert found.first is not None and found.search_end is not None
    here, taken, before = float(found.networks), 0.0, 0.0
    for rung in range(found.rungs):
        reached = found.first * found.cumulative(rung)
        taken += here * (reached - before)
        before, here = reached, here / 3
    assert taken == pytest.approx(found.search_end * workers)


@given(times, times, workers, finalists, st.booleans())
def test_more_time_is_never_for_fewer_networks(
    one: float, other: float, workers: int, finalists: int, compress: bool
) -> None:
    short, long = (made(left, workers=workers, finalists=finalists, compress=compress) for left in sorted((one, other)))
    assert short.networks <= long.networks
    assert short.finalists <= long.finalists
    assert short.rungs <= long.rungs


@given(times, workers, workers)
def test_more_workers_never_try_fewer_networks(left: float, one: int, other: int) -> None:
    few, many = sorted((one, other))
    assert made(left, workers=few).networks <= made(left, workers=many).networks


@given(times, workers)
def test_the_more_there_is_to_do_the_more_of_it_goes_to_trials(left: float, workers: int) -> None:
    found = made(left, workers=workers, finalists=1)
    assert found.search_end is not None and found.training_end is not None
    if found.networks == 1:
        assert found.search_end == 0
    else:
        assert 0.2 <= found.search_end / found.training_end + 1e-9
        assert found.search_end / found.training_end <= 0.5 + 1e-9


@given(times, times, workers)
def test_the_first_rung_of_an_earlier_start_stays(left: float, first: float, workers: int) -> None:
    anew, kept = made(left, workers=workers), made(left, workers=workers, first=first)
    assert kept == Plan(**{**anew.to_data(), "first": first})


@given(times, st.integers(1, 40))
def test_epochs_and_a_number_of_networks_that_are_asked_for_are_kept(left: float, networks: int) -> None:
    found = made(left, epochs=3, networks=networks, first=5.0)
    assert (found.first, found.epochs) == (None, 3)
    assert found.networks == min(networks, made(left).networks)
    assert (found.search_end == 0) is (found.networks == 1)


@given(times, workers)
def test_what_cannot_go_on_has_one_rung_with_all_the_time(left: float, workers: int) -> None:
    found = made(left, workers=workers, continues=False)
    assert found.first is not None and found.search_end is not None
    assert found.rungs == 1
    assert found.first * found.networks == pytest.approx(found.search_end * workers)


@given(times, workers, st.booleans())
def test_a_plan_is_kept_as_plain_data(left: float, workers: int, compress: bool) -> None:
    found = made(left, workers=workers, compress=compress)
    assert Plan.from_data(found.to_data()) == found


@pytest.mark.parametrize(("trials", "rungs"), [(1, 1), (2, 1), (5, 1), (6, 2), (9, 2), (15, 2), (16, 3), (81, 4)])
def test_without_a_clock_there_are_so_many_trials_in_epochs(trials: int, rungs: int) -> None:
    """About two reach the last rung: the full training is the one after it."""
    found = without_clock(trials=trials, finalists=2, epochs=None)
    assert (found.networks, found.rungs, found.finalists) == (trials, rungs, min(2, trials))
    assert (found.first, found.epochs) == (None, EPOCHS_SEARCH)
    assert (found.search_end, found.training_end) == (None, None)
    assert without_clock(trials=trials, finalists=2, epochs=7).epochs == 7
    assert without_clock(trials=trials, finalists=2, epochs=None, continues=False).rungs == 1


def test_without_a_clock_trials_are_like_earlier_ones() -> None:
    kept = without_clock(trials=9, finalists=2, first=8.0, epochs=None)
    assert (kept.first, kept.epochs) == (8.0, None)
    asked = without_clock(trials=9, finalists=2, first=8.0, epochs=3)
    assert (asked.first, asked.epochs) == (None, 3)


def test_each_rung_is_three_times_as_far() -> None:
    assert [made(900.0).cumulative(rung) for rung in range(3)] == [1, 3, 9]


SENTENCES = {
    "1 network is trained until the time is used up": made(20.0, workers=1),
    "about 2 networks are tried with 1.6 s of training each; the best one goes on until the time is used up": made(
        30.0, workers=1
    ),
    "about 19 networks are tried with 19.3 s of training each, the best third of them 3 times as long, and so on; "
    "the best 3 go on until the time is used up": made(900.0),
    "about 38 networks are tried with 1 epoch each, the best third of them 3 times as long, and so on; "
    "the best 3 go on until the time is used up": made(3700.0, epochs=1),
    "1 network is trained": without_clock(trials=1, finalists=1, epochs=None),
    "2 networks are tried with 1 epoch each; the best one is trained fully": without_clock(
        trials=2, finalists=1, epochs=1
    ),
    "9 networks are tried with 4 epochs each, the best third of them 3 times as long; the best 2 are trained fully": (
        without_clock(trials=9, finalists=2, epochs=None)
    ),
}


@pytest.mark.parametrize("said", SENTENCES)
def test_a_plan_is_said_in_a_sentence(said: str) -> None:
    assert SENTENCES[said].sentence() == said
