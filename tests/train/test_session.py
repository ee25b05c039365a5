"""A training that can be paused: it ends bit for bit where an undisturbed one does, and as late as it was told."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsearch.train import Leg, Session, Training, TrainingError, fresh
from medsearch.train.augment import Augment

Make = Callable[..., Any]
Begin = Callable[..., Session]


class Dropping(nn.Module):
    """A network that draws random numbers as it trains."""

    def __init__(self, work: Training) -> None:
        super().__init__()
        torch.manual_seed(0)
        pixels = math.prod(work.data.size)
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
        )

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.layers((images - 100) / 40)
        return scores


class Clock:
    """Tells the time, which passes as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def begin(training: Make, genotype: Make) -> Begin:
    """``begin(kind="network", clock=..., batch=..., ...)``: a new session of the toy's 36 images."""

    def make(kind: str = "network", *, clock: Callable[[], float] | None = None, **changes: Any) -> Session:
        work = training(**{"augment": Augment(), "rise": 4, **changes})
        model = fresh(genotype("classification", 2), work.interface, work.data, seed=0)
        given = {} if clock is None else {"clock": clock}
        return Session(
            Dropping(work) if kind == "dropping" else model.cpu(), work.data, work.task, work.recipe, **given
        )

    return make


def moved(state: dict[str, Any]) -> dict[str, Any]:
    """A state as it is after it went through a file that may hold tensors and plain values alone."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    found: dict[str, Any] = torch.load(buffer, weights_only=True)
    return found


def bits(session: Session) -> list[Tensor]:
    """Everything that lives from step to step."""
    return [tensor.clone() for tensor in session.stepper.resident()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def rates(session: Session) -> list[float]:
    """The learning rate of every step that is made from now on."""
    seen: list[float] = []
    step = session.stepper.learn

    def noting(images: Tensor, targets: Tensor) -> Tensor:
        seen.append(session.stepper.optimizer.param_groups[0]["lr"])
        return step(images, targets)

    session.stepper.learn = noting  # type: ignore[method-assign]
    return seen


STEPS = 7
HOW = [
    ("network", {}),
    ("network", {"batch": 7}),  # six steps of six images
    ("network", {"batch": 16}),  # of 12, 12 and 12
    ("network", {"batch": 35}),  # of 18 and 18
    ("network", {"batch": 10, "accumulate": 3}),
    ("dropping", {"batch": 8}),  # of 8, 7, 7, 7 and 7
    ("dropping", {"batch": 12, "accumulate": 2}),
]


@pytest.mark.parametrize(("kind", "changes"), HOW, ids=str)
def test_a_training_paused_after_any_step_ends_where_an_undisturbed_one_does(
    begin: Begin, kind: str, changes: dict[str, Any]
) -> None:
    """Bit for bit, weights, average and moments; then both fall to the end."""
    whole = begin(kind, **changes)
    whole.run(Leg(steps=STEPS))
    wanted = bits(whole)
    whole.run(Leg(steps=STEPS + 3, falls=True))
    paused = begin(kind, **changes)
    for steps in range(1, STEPS + 1):
        paused.run(Leg(steps=steps))
        state = moved(paused.state())
        paused = begin(kind, **changes)
        paused.load(state)
    assert same(bits(paused), wanted)
    paused.run(Leg(steps=STEPS + 3, falls=True))
    assert same(bits(paused), bits(whole))
    assert paused.evaluate() == whole.evaluate()


@pytest.mark.parametrize("kind", ["network", "dropping"])
def test_a_training_goes_on_from_the_middle_of_a_falling_leg(begin: Begin, kind: str) -> None:
    """Three steps to an epoch, and eight in the fall, which begins within one: there are pauses after 3, 6 and 9."""
    kept: list[dict[str, Any]] = []
    whole = begin(kind)
    whole.run(Leg(steps=2))
    seen = rates(whole)
    whole.run(Leg(steps=10, falls=True), pause=lambda: kept.append(moved(whole.state())))
    assert [state["steps"] for state in kept] == [3, 6, 9]
    for state in kept:
        again = begin(kind)
        again.load(state)
        rest = rates(again)
        again.run(Leg(steps=10, falls=True))
        assert rest == seen[state["steps"] - 2 :]
        assert same(bits(again), bits(whole))


def test_a_pause_on_the_way_to_a_rung_is_no_part_of_a_fall_that_follows(begin: Begin) -> None:
    kept: list[dict[str, Any]] = []
    session = begin()
    session.run(Leg(steps=9), pause=lambda: kept.append(moved(session.state())))
    again, straight = begin(), begin()
    again.load(kept[1])
    straight.run(Leg(steps=6))
    seen, wanted = rates(again), rates(straight)
    for one in (again, straight):
        one.run(Leg(steps=10, falls=True))
    assert seen == wanted
    assert seen[0] == again.recipe.lr


def test_an_evaluation_changes_nothing_of_what_is_learned(begin: Begin) -> None:
    plain, evaluated = begin(), begin()
    for step in range(1, 6):
        for session in (plain, evaluated):
            session.run(Leg(steps=step))
        evaluated.evaluate()
    weights = [list(session.stepper.model.state_dict().values()) for session in (plain, evaluated)]
    assert same(*weights)
    assert plain.evaluate() == evaluated.evaluate()


def test_the_rate_rises_stays_and_falls(begin: Begin) -> None:
    """Over four steps to 0.02; then, of four steps, 1 - sqrt(0), 1 - sqrt(1/4), 1 - sqrt(2/4) and 1 - sqrt(3/4)."""
    session = begin(lr=0.02, rise=4)
    seen = rates(session)
    session.run(Leg(steps=6))
    assert seen == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.02, 0.02])
    session.run(Leg(steps=10, falls=True))
    assert seen[6:] == pytest.approx([0.02, 0.01, 0.02 * (1 - math.sqrt(0.5)), 0.02 * (1 - math.sqrt(0.75))])


def ticking(begin: Begin, **changes: Any) -> tuple[Session, Clock]:
    """A session of which every step takes a second, and its clock."""
    clock = Clock()
    session = begin(clock=clock, **changes)
    step = session.stepper.learn

    def learn(images: Tensor, targets: Tensor) -> Tensor:
        clock.now += 1
        return step(images, targets)

    session.stepper.learn = learn  # type: ignore[method-assign]
    return session, clock


def test_a_fall_by_the_clock_falls_with_the_time_that_passes(begin: Begin) -> None:
    """A second a step, and an evaluation that takes none: of five steps, 1 - sqrt of 0, 1/5, ..., 4/5."""
    session, _ = ticking(begin, rise=1)
    session.evaluate()
    seen = rates(session)
    session.run(Leg(within=5.0, falls=True))
    assert seen == pytest.approx([0.02 * (1 - math.sqrt(passed / 5)) for passed in range(5)])


def test_seconds_are_of_all_legs_together(begin: Begin) -> None:
    session, clock = ticking(begin)
    session.run(Leg(seconds=4.0))
    assert (session.steps, session.seconds) == (4, 4.0)
    clock.now += 100  # while others train
    state = moved(session.state())
    session, clock = ticking(begin)
    session.load(state)
    session.run(Leg(seconds=6.0))
    assert (session.steps, session.seconds) == (6, 6.0)


def test_evaluations_count_among_the_seconds(begin: Begin) -> None:
    session, clock = ticking(begin)
    session.run(Leg(seconds=2.0))
    session.averaged.register_forward_hook(lambda *_: setattr(clock, "now", clock.now + 0.25))
    session.evaluate()
    evaluation = clock.now - 2
    assert evaluation > 0
    assert session.seconds == 2 + evaluation
    session.run(Leg(seconds=2 + evaluation + 3))
    assert session.steps == 5


@pytest.mark.parametrize(("least", "steps"), [(1, 4), (4, 4), (6, 6), (16, 16)])
def test_seconds_end_nothing_before_the_least_steps_of_the_leg(begin: Begin, least: int, steps: int) -> None:
    session, _ = ticking(begin)
    session.run(Leg(seconds=4.0, least=least))
    assert session.steps == steps
    session.run(Leg(seconds=4.0, least=2))
    assert session.steps == steps + 2


@pytest.mark.parametrize("within", [3.0, 3.5, 8.0, 20.0])
def test_a_leg_with_its_evaluation_ends_within_its_time(begin: Begin, within: float) -> None:
    """An evaluation takes 1.5 s, as the last one did; what is left is a second a step, the last one may begin late."""
    session, clock = ticking(begin)
    session._evaluated = 1.5
    session.run(Leg(within=within))
    assert session.steps == math.ceil(within - 1.5)
    assert within - 1.5 <= clock.now < within - 0.5


def test_an_evaluation_that_was_never_made_is_expected_from_the_steps(begin: Begin) -> None:
    """16 + 8 batches of 12 images at half a step's cost are 112 / 12 / 2 = 4.7 s; so of 9 s, 5 steps may be made."""
    session, clock = ticking(begin)
    session.run(Leg(within=9.0))
    assert session.steps == math.ceil(9 - 0.5 * (16 + 8 * 12) / 12)


@pytest.mark.parametrize("leg", [Leg(within=0.0), Leg(within=0.0, falls=True), Leg(seconds=0.0), Leg(seconds=-1.0)])
def test_a_leg_without_time_makes_one_step(begin: Begin, leg: Leg) -> None:
    session, _ = ticking(begin)
    assert math.isfinite(session.run(leg))
    assert session.steps == 1


@pytest.mark.parametrize("steps", [5, 3])
@pytest.mark.parametrize("falls", [False, True])
def test_a_leg_whose_steps_were_all_made_makes_none(begin: Begin, steps: int, falls: bool) -> None:
    session = begin()
    session.run(Leg(steps=5))
    before = bits(session)
    assert math.isnan(session.run(Leg(steps=steps, falls=falls)))
    assert session.steps == 5
    assert same(bits(session), before)


def test_a_leg_has_an_end_and_a_fall_one_that_is_known() -> None:
    for given in ({}, {"falls": True}, {"seconds": 1.0, "falls": True}):
        with pytest.raises(AssertionError, match="a leg needs an end"):
            Leg(**given)


def test_whatever_ends_first_ends_the_leg(begin: Begin) -> None:
    for leg, steps in ((Leg(steps=3, seconds=5.0), 3), (Leg(steps=9, seconds=5.0), 5), (Leg(steps=9, within=1.0), 1)):
        session, _ = ticking(begin)
        session.run(leg)
        assert session.steps == steps


def test_steps_epochs_and_losses_are_told(begin: Begin) -> None:
    """36 images by 7 are six steps an epoch."""
    session = begin(batch=7)
    first = session.run(Leg(steps=6))
    assert (session.per_epoch, session.steps, session.epochs) == (6, 6, 1.0)
    assert session.run(Leg(steps=45)) < first
    assert session.epochs == 7.5
    assert session.evaluate()["auc"] > 0.9
    assert not session.averaged.training


def test_every_image_is_learned_from_once_an_epoch_in_an_order_of_its_own(begin: Begin) -> None:
    session = begin(batch=8, augment=Augment(flip=False, turn=False, shift=0.0, intensity=0.0))
    seen: list[np.ndarray] = []
    step = session.stepper.learn

    def learn(images: Tensor, targets: Tensor) -> Tensor:
        seen.append(images.numpy().copy())
        return step(images, targets)

    session.stepper.learn = learn  # type: ignore[method-assign]
    session.run(Leg(steps=10))
    assert [len(batch) for batch in seen] == [8, 7, 7, 7, 7] * 2
    one, other = np.concatenate(seen[:5]), np.concatenate(seen[5:])
    assert not np.array_equal(one, other)
    for epoch in (one, other):
        assert sorted(epoch[:, 0, 0, 0]) == sorted(session.data.train.images[:, 0, 0, 0])


def test_the_random_state_of_others_is_left_alone_and_of_no_concern(begin: Begin) -> None:
    session, other = begin("dropping"), begin("dropping")
    torch.manual_seed(11)
    state, drawn = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    session.run(Leg(steps=4))
    session.evaluate()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], drawn)  # type: ignore[index,arg-type]
    torch.manual_seed(12)
    other.run(Leg(steps=4))
    other.evaluate()
    assert same(bits(session), bits(other))


def test_another_seed_is_another_training(begin: Begin) -> None:
    one, other = begin("dropping"), begin("dropping", seed=1)
    for session in (one, other):
        session.run(Leg(steps=2))
    assert not same(bits(one), bits(other))


@pytest.mark.parametrize("leg", [Leg(steps=2), Leg(steps=30), Leg(steps=30, falls=True)])
def test_a_loss_that_is_endless_ends_the_training(begin: Begin, leg: Leg) -> None:
    """At the end of the leg, or of the epoch."""
    session = begin()

    def learn(images: Tensor, targets: Tensor) -> Tensor:
        session.stepper.steps += 1
        return torch.tensor(math.inf)

    session.stepper.learn = learn  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=rf"the loss before step {min(3, leg.steps or 0)} is inf") as ended:
        session.run(leg)
    assert ended.value.remedy == "Lower the learning rate."


def test_a_rate_that_is_far_too_high_ends_the_training(begin: Begin) -> None:
    session = begin(lr=1e38, rise=1)
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        session.run(Leg(steps=60))
        session.evaluate()
