"""Who is on the front and who is delivered, on trials made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from medsearch.nas import Trial, choose, front
from medsearch.nas.front import dominates
from medsearch.spaces import Space

Make = Callable[..., Any]
Build = Callable[..., Trial]
CONV, ATTENTION, MLP = "dwconv", "linear_attention", "block_gmlp(block=4)"


@pytest.fixture
def made(space: Space, trial: Make) -> Build:
    """``made(error, latency, memory, mixers=(CONV, CONV))``: a complete trial; its number counts up."""
    count = iter(range(100))

    def make(
        error: float, latency: float, memory: float = 1.0, *, mixers: tuple[str, str] = (CONV, CONV), **changes: Any
    ) -> Trial:
        genes = {f"stages.{stage}.{gene}": 8 for stage in (0, 1) for gene in ("dim",)}
        genes |= {"stages.0.mixer": mixers[0], "stages.1.mixer": mixers[1]}
        genes |= {f"stages.{stage}.mixer.dwconv.kernel": 3 for stage in (0, 1) if mixers[stage] == CONV}
        return trial(space.decode(genes), number=next(count), objectives=(error, latency, memory), **changes)

    return make


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        ((0.1, 5, 5), (0.2, 5, 5), True),
        ((0.1, 5, 5), (0.2, 6, 6), True),
        ((0.1, 5, 5), (0.1, 5, 5), False),
        ((0.1, 6, 5), (0.2, 5, 5), False),
        ((0.2, 5, 5), (0.1, 5, 5), False),
        ((0.1, 5, 6), (0.2, 5, 5), False),
    ],
)
def test_dominates_if_nowhere_worse_and_somewhere_better(made: Build, one: Any, other: Any, better: bool) -> None:
    assert dominates(made(*one), made(*other)) is better


def test_what_has_no_objectives_neither_dominates_nor_is_dominated(made: Build) -> None:
    failed, good = replace(made(0.1, 1), objectives=None, state="failed"), made(0.5, 5)
    assert not dominates(failed, good)
    assert not dominates(good, failed)


def test_the_front_is_what_nothing_dominates_best_error_first(made: Build) -> None:
    slow, fast, middle = made(0.1, 9), made(0.3, 1), made(0.2, 5)
    beaten, small = made(0.25, 6), made(0.4, 9, 0.5)
    assert front([fast, beaten, slow, small, middle]) == [slow, middle, fast, small]


def test_only_complete_trials_are_on_the_front(made: Build) -> None:
    good = made(0.3, 5)
    others = [made(0.1, 1, state=state) for state in ("running", "failed")]
    assert front([*others, good]) == [good]
    assert choose([*others, good], 3) == [good]


def test_equals_are_on_the_front_together(made: Build) -> None:
    one, other = made(0.1, 1), made(0.1, 1, mixers=(MLP, CONV))
    assert front([one, other]) == [one, other]


def test_a_new_family_is_worth_a_little_error(made: Build) -> None:
    """Two stages with another mixer are less than one stage with a mixer that nothing chosen has."""
    best = made(0.100, 5.0, mixers=(CONV, ATTENTION))
    swapped = made(0.101, 4.9, mixers=(ATTENTION, CONV))
    new = made(0.102, 4.8, mixers=(CONV, MLP))
    assert choose([best, swapped, new], 2) == [best, new]


def test_another_order_of_mixers_is_worth_a_little_error(made: Build) -> None:
    best = made(0.100, 5.0, mixers=(CONV, ATTENTION))
    again = made(0.101, 4.9, mixers=(CONV, ATTENTION))
    swapped = made(0.102, 4.8, mixers=(ATTENTION, CONV))
    assert choose([best, again, swapped], 2) == [best, swapped]


def test_a_new_family_is_not_worth_a_bad_network(made: Build) -> None:
    best = made(0.100, 5.0)
    again = made(0.101, 4.9)
    attention = made(0.300, 4.8, mixers=(ATTENTION, ATTENTION))
    assert choose([best, again, attention], 2) == [best, again]


def test_much_faster_is_worth_a_little_error(made: Build) -> None:
    best, similar, fast = made(0.100, 5.0), made(0.1005, 4.9), made(0.104, 1.0)
    assert choose([best, similar, fast], 2) == [best, fast]


def test_more_than_the_front_are_chosen_only_if_it_is_too_small(made: Build) -> None:
    best, beaten = made(0.10, 5.0), made(0.11, 6.0, mixers=(MLP, MLP))
    fast = made(0.13, 4.0)
    assert choose([best, beaten, fast], 2) == [best, fast]
    assert set(map(id, choose([best, beaten, fast], 3))) == set(map(id, [best, beaten, fast]))


def test_chooses_no_more_than_there_are_and_nothing_from_nothing(made: Build) -> None:
    assert len(choose([made(0.1, 1)], 5)) == 1
    assert choose([], 3) == []


def test_a_perfect_network_can_be_compared_with(made: Build) -> None:
    best, second = made(0.0, 5.0), made(0.1, 1.0)
    assert choose([second, best], 2) == [best, second]


def test_of_those_that_cannot_be_told_apart_the_one_that_trains_slowest_goes_on(space: Space, trial: Make) -> None:
    """One standard error of 0.3 on 100 images is sqrt(0.3 * 0.7 / 100) = 0.046: 0.34 is within, 0.35 is not."""
    genotypes = list(space.neighbours(space.first()))
    known = [(0.30, 9.0, 2), (0.34, 4.0, 2), (0.35, 1.0, 2), (0.33, 2.0, 1)]
    trials = [
        trial(genotype, number=number, objectives=(error, 1.0, 1.0), curve=(0.5,) * (rungs - 1) + (error,))
        for number, (genotype, (error, _, rungs)) in enumerate(zip(genotypes, known, strict=False))
    ]
    for one, (_, epochs, _) in zip(trials, known, strict=True):
        one.facts["epochs"] = epochs
    assert choose(trials, 1, images=100)[0].number == 1
    assert choose(trials, 1, images=10_000)[0].number == 0
    assert choose(trials, 1)[0].number == 0
