"""Who goes on, on trials made by hand: by turns the least error and what stands out, one in three at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from medsearch.nas import Trial
from medsearch.nas.rungs import goes_on, in_order
from medsearch.spaces import Genotype
from medsearch.testing.strategies import toy_space

Point = tuple[float, ...]
FIRST: Genotype = toy_space().first()


def at(number: int, *curve: float, costs: Point = (1.0,)) -> Trial:
    """A trial with these errors at the rungs it has reached; who it is does not matter here."""
    return Trial(
        number=number,
        genes={},
        genotype=FIRST,
        objectives=(curve[-1], *costs),
        metrics={},
        curve=curve,
        state="complete",
        facts={},
    )


def numbers(trials: Sequence[Trial]) -> list[int]:
    return [trial.number for trial in trials]


SIX = [
    at(0, 0.10, costs=(10.0,)),
    at(1, 0.20, costs=(9.0,)),
    at(2, 0.30, costs=(4.0,)),
    at(3, 0.50, costs=(1.0,)),
    at(4, 0.15, costs=(11.0,)),
    at(5, 0.55, costs=(2.0,)),
]
"""Error and cost.  On the front: 0, 1, 2, 3; behind them 4 and 5, the fourth behind 0 and the fifth behind 3.

Crowding of 1: (0.30 - 0.10) / 0.40 + (10 - 4) / 9 = 0.5 + 0.667 = 1.167; of 2: (0.50 - 0.20) / 0.40 + (9 - 1) / 9 =
0.75 + 0.889 = 1.639; 0 and 3 are the ends.  So 0, 3, 2, 1 stand out, then 4 and 5; by error 0, 4, 1, 2, 3, 5.
"""


def test_by_turns_the_least_error_and_what_stands_out() -> None:
    """Turns: 0 and 0, 4 and 3, 1 and 2, ..."""
    assert numbers(in_order(SIX, 1)) == [0, 4, 3, 1, 2, 5]
    assert numbers(in_order(SIX[::-1], 1)) == [0, 4, 3, 1, 2, 5]


def test_with_the_error_alone_the_order_is_its_own() -> None:
    assert numbers(in_order([at(0, 0.3, costs=()), at(1, 0.1, costs=()), at(2, 0.2, costs=())], 1)) == [1, 2, 0]


def test_of_equal_ones_the_cheaper_and_then_the_earlier_comes_first() -> None:
    equal = [at(0, 0.1, costs=(2.0,)), at(1, 0.1, costs=(1.0,)), at(2, 0.1, costs=(2.0,))]
    assert numbers(in_order(equal, 1)) == [1, 0, 2]


def test_each_rung_compares_the_errors_of_that_rung() -> None:
    """At the first rung 0 was better, at the second one 1 is; both cost the same."""
    both = [at(0, 0.1, 0.09), at(1, 0.2, 0.05)]
    assert numbers(in_order(both, 1)) == [0, 1]
    assert numbers(in_order(both, 2)) == [1, 0]


def test_one_of_three_goes_on_and_two_are_too_few() -> None:
    assert goes_on(SIX[:2], rungs=2) is None
    assert goes_on(SIX[:3], rungs=2) is SIX[0]
    assert goes_on(SIX[:3], rungs=1) is None
    assert goes_on([], rungs=3) is None


def test_the_next_one_goes_on_where_the_first_is_on_its_way_or_has_been_there() -> None:
    """Of six, two may: 0 and 4."""
    assert goes_on(SIX, rungs=2, busy={0}) is SIX[4]
    assert goes_on(SIX, rungs=2, busy={0, 4}) is None
    gone = replace(SIX[0], curve=(0.10, 0.08))
    assert goes_on([gone, *SIX[1:]], rungs=2) is SIX[4]
    assert goes_on(SIX[:3], rungs=2, busy={0}) is None, "the place is taken by the one on its way"


def test_one_in_two_goes_on_where_that_is_asked_for() -> None:
    assert goes_on(SIX[:2], rungs=2, reduction=2) is SIX[0]
    assert goes_on(SIX[:2], rungs=2, reduction=3) is None


def test_the_highest_rung_with_one_to_go_on_comes_first() -> None:
    """Three at the second rung, of which one may; nine at the first, of which another would have earned it."""
    second = [at(number, 0.1 + 0.01 * number, 0.05 + 0.01 * number) for number in range(3)]
    first = [at(9, 0.01), *(at(number, 0.5) for number in range(3, 8))]
    assert numbers(in_order([*second, *first], 1))[0] == 9
    assert goes_on([*second, *first], rungs=3) is second[0]
    assert goes_on([*second, *first], rungs=2) is first[0]
    assert goes_on([*second, *first], rungs=3, busy={0}) is first[0]


values = st.integers(0, 8).map(lambda value: value / 8)
points = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.tuples(*[values] * width), min_size=1, max_size=30)
)  # of few values, so that there are ties


def made(found: Sequence[Point]) -> list[Trial]:
    return [at(number, point[0], costs=point[1:]) for number, point in enumerate(found)]


@given(points)
def test_the_order_has_each_once_and_the_best_error_first(found: list[Point]) -> None:
    trials = made(found)
    order = in_order(trials, 1)
    assert sorted(numbers(order)) == numbers(trials)
    assert order[0].curve[0] == min(trial.curve[0] for trial in trials)


@given(points)
def test_what_is_best_in_anything_comes_before_what_is_dominated(found: list[Point]) -> None:
    """Of each pair of turns one goes to the front, so half of the first places are on it, as long as it lasts."""
    trials = made(found)

    def beaten(one: Trial) -> bool:
        assert one.objectives is not None
        others = [other.objectives for other in trials if other.objectives and other.objectives != one.objectives]
        return any(all(a <= b for a, b in zip(other, one.objectives, strict=True)) for other in others)

    front = sum(not beaten(trial) for trial in trials)
    for count in range(1, len(trials) + 1):
        good = sum(not beaten(trial) for trial in in_order(trials, 1)[:count])
        assert good >= min(front, count / 2)


@given(points, st.integers(2, 4), st.integers(1, 4))
def test_never_more_than_one_in_so_many_goes_on_from_a_rung(found: list[Point], reduction: int, rungs: int) -> None:
    """All that there is to do is done, each error shrinking as it goes on."""
    trials = {trial.number: trial for trial in made(found)}
    for _ in range(5 * len(trials)):
        one = goes_on(list(trials.values()), rungs=rungs, reduction=reduction)
        if one is None:
            break
        curve = (*one.curve, 0.75 * one.curve[-1])
        assert one.objectives is not None
        trials[one.number] = replace(one, curve=curve, objectives=(curve[-1], *one.objectives[1:]))
    else:
        raise AssertionError("it has no end")
    reached = Counter(rung for trial in trials.values() for rung in range(1, len(trial.curve) + 1))
    assert max(reached) <= rungs
    for rung in range(2, rungs + 1):
        assert reached[rung] == reached[rung - 1] // reduction


@given(points, st.data())
def test_whoever_is_busy_never_goes_on(found: list[Point], data: st.DataObject) -> None:
    trials = made(found)
    busy = data.draw(st.sets(st.sampled_from(numbers(trials))))
    one = goes_on(trials, rungs=2, busy=busy)
    assert one is None or one.number not in busy
