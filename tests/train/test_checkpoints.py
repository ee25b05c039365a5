"""Checkpoints of trainings: what goes on from one ends where an undisturbed training does; nothing else is read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medsearch.core.errors import CheckpointError, WriteError
from medsearch.spaces import Genotype
from medsearch.train import Leg, Session, Trained, Training, fresh
from medsearch.train.augment import Augment
from medsearch.train.evaluators import training as saving
from medsearch.train.evaluators.training import read_checkpoint, write_checkpoint

Make = Callable[..., Any]


@pytest.fixture
def work(training: Make, tmp_path: Path) -> Training:
    """Three steps to an epoch, with a checkpoint in this test's own folder, which is not there yet."""
    made: Training = training(augment=Augment(), rise=4)
    return replace(made, checkpoint=tmp_path / "checkpoints" / "one.pt")


@pytest.fixture
def architecture(genotype: Make) -> Genotype:
    found: Genotype = genotype("classification", 2)
    return found


def leg(work: Training, **given: Any) -> Training:
    return replace(work, leg=Leg(**given))


def path_of(work: Training) -> Path:
    assert work.checkpoint is not None
    return work.checkpoint


def same(one: Trained, other: Trained) -> bool:
    assert one.model is not None and other.model is not None
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    scores = (one.error, one.metrics, one.epochs) == (other.error, other.metrics, other.epochs)
    return scores and all(torch.equal(a, b) for a, b in pairs)


def test_an_evaluation_leaves_its_state_and_the_next_one_goes_on_from_it(
    work: Training, architecture: Genotype
) -> None:
    undisturbed = replace(work, checkpoint=None)
    first = leg(work, steps=5)(architecture)
    assert read_checkpoint(path_of(work))["steps"] == 5
    assert same(first, leg(undisturbed, steps=5)(architecture))
    second = leg(work, steps=12)(architecture)
    assert (first.epochs, second.epochs) == (5 / 3, 4.0)
    assert second.seconds > first.seconds
    assert same(second, leg(undisturbed, steps=12)(architecture))
    assert not same(first, second)


def test_without_a_leg_it_trains_for_the_epochs_of_the_recipe_and_falls(work: Training, architecture: Genotype) -> None:
    plain = replace(work, checkpoint=None)
    assert plain(architecture).epochs == 2.0
    assert same(plain(architecture), leg(plain, steps=6, falls=True)(architecture))
    assert not same(plain(architecture), leg(plain, steps=6)(architecture))


def test_what_reached_the_end_of_its_leg_is_scored_again_and_not_trained(
    work: Training, architecture: Genotype
) -> None:
    """As where the process was ended after the checkpoint was written and before the result was."""
    for falls in (False, True):
        first = leg(work, steps=9, falls=falls)(architecture)
        assert same(leg(work, steps=9, falls=falls)(architecture), first)


@pytest.mark.parametrize("falls", [False, True])
def test_a_training_that_was_ended_on_its_way_ends_where_an_undisturbed_one_does(
    work: Training, architecture: Genotype, monkeypatch: pytest.MonkeyPatch, falls: bool
) -> None:
    """Ended as its state was saved for the second time, after two epochs of five."""
    monkeypatch.setattr(saving, "SAVED_SECONDS", 0.0)
    saved: list[int] = []

    def write(path: Path, state: dict[str, Any]) -> None:
        write_checkpoint(path, state)
        saved.append(state["steps"])
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(saving, "write_checkpoint", write)
    with pytest.raises(KeyboardInterrupt):
        leg(work, steps=15, falls=falls)(architecture)
    assert read_checkpoint(path_of(work))["steps"] == 6
    again = leg(work, steps=15, falls=falls)(architecture)
    assert saved == [3, 6, 9, 12, 15, 15]
    assert same(again, leg(replace(work, checkpoint=None), steps=15, falls=falls)(architecture))


class Harmful:
    """Something that would do anything as it is read."""

    def __reduce__(self) -> Any:
        return print, ("read",)


def broken(what: str, path: Path, work: Training, architecture: Genotype) -> None:
    path.parent.mkdir()
    if what == "truncated":
        leg(work, steps=1)(architecture)
        path.write_bytes(path.read_bytes()[:-100])
    elif what == "pickled":
        path.write_bytes(pickle.dumps(Harmful()))
    elif what == "an object":
        torch.save({"model": Harmful()}, path)
    elif what == "nothing":
        path.write_bytes(b"")
    else:
        path.write_bytes(b"hello" * 1000)


@pytest.mark.parametrize("what", ["truncated", "pickled", "an object", "nothing", "text"])
def test_a_file_that_is_no_checkpoint_is_refused_and_not_run(
    work: Training, architecture: Genotype, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path = path_of(work)
    broken(what, path, work, architecture)
    with pytest.raises(CheckpointError, match=r"one.pt: cannot be read: ") as refusal:
        leg(work, steps=2)(architecture)
    assert refusal.value.remedy == "Delete it, to train anew."
    assert capsys.readouterr().out == ""
    path.unlink()
    assert leg(work, steps=2)(architecture).epochs == 2 / 3


@pytest.mark.parametrize("what", ["a list", "a part", "another network"])
def test_a_checkpoint_of_something_else_is_refused(work: Training, architecture: Genotype, what: str) -> None:
    path = path_of(work)
    leg(work, steps=1)(architecture)
    state: Any = read_checkpoint(path)
    if what == "a list":
        state = [1, 2]
    elif what == "a part":
        del state["averaged"]
    else:
        other = replace(architecture, stages=architecture.stages[:1])
        model = fresh(other, work.interface, work.data, seed=0)
        state = Session(model, work.data, work.task, work.recipe).state()
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"one.pt: is not of this network: "):
        leg(work, steps=2)(architecture)


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="file"):
        write_checkpoint(tmp_path / "file" / "one.pt", {"steps": 1})
