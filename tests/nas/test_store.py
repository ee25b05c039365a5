"""The record of a search: an Optuna study that Optuna itself reads, and that survives being cut off anywhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from medsearch.core.errors import RunError, WriteError
from medsearch.nas import INTERRUPTED, Search, Store, read_strategy
from medsearch.spaces import Space

OBJECTIVES = ("latency", "memory")
Make = Callable[..., Any]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def test_what_was_written_is_read_by_plain_optuna(url: str, space: Space) -> None:
    store = Store(url, space, objectives=OBJECTIVES)
    first, second, third = space.neighbours(space.first()), space.first(), None
    one, other, third = next(first), second, next(first)
    for genotype in (one, other, third):
        store.begin(genotype, {"costs": {}}, {"memory": -0.25})
    store.end(1, state="complete", objectives=(0.5, 2.0, 3e6))
    store.end(0, state="complete", objectives=(0.25, 1.5, 2e6), metrics={"auc": 0.75}, facts={"s": 9})
    store.end(2, state="failed", facts={"reason": "out of luck"})

    study = optuna.load_study(study_name="search", storage=url)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.params for trial in study.trials] == [space.encode(each) for each in (one, other, third)]
    assert study.trials[0].values == [0.25, 1.5, 2e6]
    assert study.trials[0].constraints == {"memory": -0.25}
    assert study.best_trials == [study.trials[0]]

    again = Store(url, space, objectives=OBJECTIVES).trials()
    assert again == store.trials()
    assert [trial.state for trial in again] == ["complete", "complete", "failed"]
    assert again[0].facts == {"costs": {}, "s": 9}
    assert (again[0].metrics, again[0].curve) == ({"auc": 0.75}, (0.25,))
    assert (again[1].objectives, again[1].curve) == ((0.5, 2.0, 3e6), (0.5,))
    assert again[2].objectives is None
    assert again[2] == store.trial(2)


def test_later_rungs_survive_and_plain_optuna_sees_the_first_one(url: str, space: Space) -> None:
    store = Store(url, space, objectives=OBJECTIVES)
    one, other = space.first(), next(space.neighbours(space.first()))
    for number, genotype in enumerate((one, other)):
        store.begin(genotype, {"costs": {}}, {})
        store.end(number, state="complete", objectives=(0.5, 2.0, 3e6), metrics={"auc": 0.5}, facts={"epochs": 1.0})
    assert store.trial(0).curve == (0.5,)
    store.reach(0, (0.5, 0.375), {"auc": 0.625}, {"epochs": 3.0, "kept": True})
    store.reach(0, (0.5, 0.375, 0.25), {"auc": 0.75}, {"epochs": 9.0})
    for seen in (store, Store(url, space, objectives=OBJECTIVES)):
        trial = seen.trials()[0]
        assert trial == seen.trial(0)
        assert (trial.state, trial.curve, trial.objectives) == ("complete", (0.5, 0.375, 0.25), (0.25, 2.0, 3e6))
        assert trial.metrics == {"auc": 0.75}
        assert trial.facts == {"costs": {}, "epochs": 9.0, "kept": True}
        assert (seen.trial(1).curve, seen.trial(1).objectives) == ((0.5,), (0.5, 2.0, 3e6))
        assert seen.recover() == []
    study = optuna.load_study(study_name="search", storage=url)
    assert [trial.values for trial in study.trials] == [[0.5, 2.0, 3e6]] * 2
    assert [trial.user_attrs["metrics"] for trial in study.trials] == [{"auc": 0.5}] * 2


def test_messages_of_optuna_are_as_loud_as_before(url: str, space: Space, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="optuna")  # also puts the level back
    for level in (optuna.logging.INFO, optuna.logging.ERROR):
        optuna.logging.set_verbosity(level)
        store = Store(url, space, objectives=OBJECTIVES)
        store.begin(read_strategy("tpe", where="test")(space, store.trials(), 0), {"costs": {}}, {})
        assert optuna.logging.get_verbosity() == level
    assert not caplog.records
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.create_study()
    assert "created" in caplog.text


def test_plain_optuna_sees_numbers_as_numbers(url: str, a_space: Make) -> None:
    mixer = {"choice": [{"name": "dwconv", "kernel": {"choice": [3, 5]}}, "linear_attention"]}
    stage = {"dim": {"choice": [32, 48, 128]}, "depth": {"range": [1, 3]}, "channel": "mlp", "mixer": mixer}
    space = a_space(stages=[{**stage, "layer_scale": {"choice": [1, 1e-6]}}])
    genotypes = list(space.neighbours(space.first()))
    store = Store(url, space, objectives=OBJECTIVES)
    for genotype in genotypes:
        store.begin(genotype, {}, {})
    trials = optuna.load_study(study_name="search", storage=url).trials
    assert [trial.params for trial in trials] == [space.encode(genotype) for genotype in genotypes]
    assert {trial.params["stages.0.dim"] for trial in trials} == {32, 48, 128}
    shown = {gene: distribution for trial in trials for gene, distribution in trial.distributions.items()}
    assert shown == {
        "stages.0.dim": IntDistribution(32, 128, step=16),
        "stages.0.depth": IntDistribution(1, 3),
        "stages.0.layer_scale": FloatDistribution(1e-6, 1),
        "stages.0.mixer": CategoricalDistribution(("dwconv", "linear_attention")),
        "stages.0.mixer.dwconv.kernel": IntDistribution(3, 5, step=2),
    }


@pytest.fixture
def old(url: str) -> optuna.Study:
    """A study as earlier versions began it: without a format."""
    return optuna.create_study(study_name="search", storage=url, directions=["minimize"] * 3)


def test_a_study_of_another_version_is_refused(url: str, space: Space, old: optuna.Study) -> None:
    old.ask().suggest_categorical("stages.0.dim", (8, 16, 32))
    with pytest.raises(RunError, match=r"study.db: holds trials in format 1 of another version") as refusal:
        Store(url, space, objectives=OBJECTIVES)
    assert refusal.value.remedy == "Begin another run, or go on with this one in the version that began it."
    old.set_user_attr("format", 5)
    with pytest.raises(RunError, match=r"in format 5 of another version of medsearch; this one has format 4"):
        Store(url, space, objectives=OBJECTIVES)


def test_a_study_that_was_cut_off_before_it_said_its_format_is_taken_over(
    url: str, space: Space, old: optuna.Study
) -> None:
    Store(url, space, objectives=OBJECTIVES).begin(space.first(), {}, {})
    assert [trial.genotype for trial in Store(url, space, objectives=OBJECTIVES).trials()] == [space.first()]


def test_a_running_trial_has_no_objectives(url: str, space: Space) -> None:
    store = Store(url, space, objectives=OBJECTIVES)
    number = store.begin(space.first(), {}, {})
    assert (store.trial(number).state, store.trial(number).objectives) == ("running", None)


def test_running_trials_are_closed_and_given_back(url: str, space: Space) -> None:
    first, second = space.first(), next(space.neighbours(space.first()))
    before = Store(url, space, objectives=OBJECTIVES)
    before.begin(first, {"costs": {"macs": 1}}, {})
    before.begin(second, {}, {})
    before.end(0, state="complete", objectives=(0.5, 1.0, 1.0))
    store = Store(url, space, objectives=OBJECTIVES)
    assert store.recover() == [second]
    assert [trial.state for trial in store.trials()] == ["complete", "failed"]
    assert store.trial(1).facts["reason"] == INTERRUPTED
    assert store.recover() == []


def test_a_trial_cut_off_while_its_result_was_written_is_not_half_good(url: str, space: Space) -> None:
    before = Store(url, space, objectives=OBJECTIVES)
    before.begin(space.first(), {"costs": {}}, {})
    study = optuna.load_study(study_name="search", storage=url)
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, "objectives", (0.5, 1.0, 1.0))
    store = Store(url, space, objectives=OBJECTIVES)
    assert store.recover() == [space.first()]
    assert (store.trial(0).state, store.trial(0).objectives) == ("failed", None)


@pytest.mark.parametrize("asked", [False, True])
def test_a_trial_cut_off_at_its_birth_is_in_nobodys_way(
    url: str, space: Space, search: Callable[..., Search], asked: bool
) -> None:
    """Killed after a trial was put into Optuna's queue, or taken out of it, and before it said what it tries."""
    study = Store(url, space, objectives=OBJECTIVES)._study
    study.enqueue_trial(space.encode(space.first()))
    if asked:
        study.ask()
    found = search()
    trials = list(found.run(until=lambda history: len(history) >= 3))
    assert [trial.number for trial in trials] == [1, 2, 3]
    assert found.store.trials() == trials
    assert [trial.params for trial in found.store._study.trials[1:]] == [trial.genes for trial in trials]
    assert found.store._study.trials[0].state == TrialState.FAIL


def test_trials_of_another_space_are_refused(url: str, space: Space, a_space: Make) -> None:
    Store(url, space, objectives=OBJECTIVES).begin(space.first(), {}, {})
    other = a_space(name="other", stages=[{"dim": 64, "mixer": "dwconv", "channel": "mlp"}])
    with pytest.raises(RunError, match="trial 0 is not of space 'other'"):
        Store(url, other, objectives=OBJECTIVES).trials()


def test_a_full_disk_is_named_and_the_search_goes_on_when_there_is_room(
    disk: Path, fill: Callable[[], None], space: Space
) -> None:
    url = f"sqlite:///{disk / 'study.db'}"
    first, second = space.first(), next(space.neighbours(space.first()))
    store = Store(url, space, objectives=OBJECTIVES)
    store.begin(first, {}, {})
    store.end(0, state="complete", objectives=(0.5, 1.0, 1.0))
    fill()
    with pytest.raises(WriteError, match=r"study.db: cannot be written: database or disk is full") as refusal:
        for _ in range(100):  # pages of the file that are not full yet take a few
            store.begin(second, {"what": "x" * 5000}, {})
    assert refusal.value.remedy == "Free some space there."
    (disk / "filler").unlink()
    again = Store(url, space, objectives=OBJECTIVES)
    again.recover()
    assert again.trial(0) == store.trial(0)
    number = again.begin(second, {}, {})
    again.end(number, state="complete", objectives=(0.25, 1.0, 1.0))
    assert again.trial(number).genotype == second


def test_a_study_that_cannot_be_written_is_named(disk: Path, url: str, space: Space, tmp_path: Path) -> None:
    Store(url, space, objectives=OBJECTIVES)
    shutil.copy(tmp_path / "study.db", disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(WriteError, match=r"disk/study.db: cannot be written: attempt to write a readonly database"):
        Store(f"sqlite:///{disk}/study.db", space, objectives=OBJECTIVES).begin(space.first(), {}, {})
    with pytest.raises(WriteError, match=r"nowhere/study.db: cannot be written: unable to open database file"):
        Store(f"sqlite:///{disk}/nowhere/study.db", space, objectives=OBJECTIVES)


def test_a_damaged_study_is_named(url: str, space: Space, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"hello" * 1000)
    with pytest.raises(RunError, match=r"study.db: cannot be used: file is not a database.\n  It was damaged"):
        Store(url, space, objectives=OBJECTIVES)


def test_objectives_are_named_and_stay_those_the_study_began_with(url: str, space: Space) -> None:
    store = Store(url, space, objectives=("macs",))
    number = store.begin(space.first(), {}, {})
    store.end(number, state="complete", objectives=(0.25, 5e6))
    study = optuna.load_study(study_name="search", storage=url)
    assert study.user_attrs["objectives"] == ["macs"]
    assert [trial.values for trial in study.trials] == [[0.25, 5e6]]
    assert [trial.objectives for trial in Store(url, space, objectives=("macs",)).trials()] == [(0.25, 5e6)]
    with pytest.raises(RunError, match=r"objectives are \['macs'\], not \['latency'\]"):
        Store(url, space, objectives=("latency",))
