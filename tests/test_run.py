"""A run directory: begun once, resumed as it was asked for, and refused when it is anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medsearch.config import SearchConfig
from medsearch.core import plugins
from medsearch.core.errors import RunError, WriteError
from medsearch.core.lock import hold
from medsearch.measurement.budget import Budget
from medsearch.run import Inputs, Run

SETTINGS = SearchConfig(
    data="mine.npz", budget=Budget(memory=10**9, latency=20.0, file=5), fit_batch=True, trials=7, seed=3, compress=True
)


PLAN = {"networks": 9, "first": 8.0, "epochs": None, "search_end": 60.0, "training_end": 80.0}
INPUTS = Inputs(data={"sha256": "0123", "images": {"train": 3}}, space="4567")


def create(folder: Path, config: SearchConfig = SETTINGS) -> Run:
    return Run.create(folder, config, "medsearch search --trials 7", INPUTS, space="name: tiny  # mine\n")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create(tmp_path / "run")


def test_a_run_is_resumed_with_what_was_asked(run: Run) -> None:
    again = Run.resume(run.folder)
    assert (again.folder, again.config, again.inputs) == (run.folder, SETTINGS, INPUTS)
    assert again.command == "medsearch search --trials 7"
    assert run.space.read_text() == "name: tiny  # mine\n"
    again.keep(replace(SETTINGS, trials=9))
    assert Run.resume(run.folder).config == replace(SETTINGS, trials=9)


def test_an_empty_folder_will_do_and_so_will_one_that_is_only_held(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert create(tmp_path / "empty").state() == {}
    with hold(tmp_path / "held"):
        assert create(tmp_path / "held").state() == {}


def test_a_new_run_that_has_no_room_leaves_nothing(disk: Path, fill: Callable[[], None]) -> None:
    fill()
    with pytest.raises(WriteError, match=r"run/space.yaml: cannot be written: No space left on device"):
        create(disk / "run")
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_notes_that_have_no_room_are_named_and_the_old_ones_stay(disk: Path, fill: Callable[[], None]) -> None:
    run = create(disk / "run")
    run.note(seconds=1.0)
    fill()
    for write in (lambda: run.note(proposals="x" * 9000), lambda: run.finish({"delivered": ["x" * 9000]})):
        with pytest.raises(WriteError, match=r"run/(state|results).json: cannot be written: No space left on device"):
            write()
    (disk / "filler").unlink()
    assert (Run.resume(run.folder).state(), run.finished) == ({"seconds": 1.0}, False)


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is there already and not empty") as refusal:
        create(tmp_path)
    assert f"--resume {tmp_path}" in refusal.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        create(tmp_path / "mine.txt")
    with pytest.raises(WriteError, match="cannot be written: Not a directory"):
        create(tmp_path / "mine.txt" / "run")


def test_only_a_run_is_resumed(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(RunError, match="is not the folder of a search"):
            Run.resume(folder)


def test_results_are_read_as_they_were_found(run: Run) -> None:
    found = {"metrics": {"dice": 0.5, "accuracy": 0.25}, "delivered": []}
    run.finish(found)
    read = json.loads((run.folder / "results.json").read_text())
    assert read == found
    assert [list(read), list(read["metrics"])] == [["metrics", "delivered"], ["dice", "accuracy"]]


def test_a_run_is_finished_from_its_results_on_until_it_is_extended_and_then_from_the_next_ones_on(run: Run) -> None:
    run.note(trained={"abc": 3.5}, plan=PLAN, seconds=90.0)
    assert not run.finished
    run.finish({"created": "first", "trials": [{"state": state} for state in ("complete", "complete", "failed")]})
    assert Run.resume(run.folder).finished
    assert run.trials_in_results() == 2
    run.begin_again(replace(SETTINGS, time=600.0))
    again = Run.resume(run.folder)
    assert (again.finished, again.config.time) == (False, 600.0)
    assert again.state().items() >= {"trained": {}, "plan": {"first": 8.0, "epochs": None}, "seconds": 90.0}.items()
    assert json.loads((run.folder / "results.json").read_text())["created"] == "first"
    again.begin_again(replace(SETTINGS, time=900.0))
    assert not again.finished
    again.finish({"created": "second"})
    assert Run.resume(run.folder).finished


def test_a_run_of_an_earlier_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(RunError, match="earlier version of medsearch.\n  Go on with it in the version that began it"):
        Run.resume(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"command": "x", "data": null}', "configuration of a search of this version"),
        ('{"command": "x", "inputs": null}', "configuration of a search of this version"),
        ("[]", "configuration of a search of this version"),
        ('{"command": ', "not valid JSON at line 1"),
    ],
)
def test_foreign_settings_are_refused(run: Run, text: str, problem: str) -> None:
    (run.folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=problem):
        Run.resume(run.folder)


def test_a_setting_of_another_version_is_refused(run: Run) -> None:
    path = run.folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "green"}))
    with pytest.raises(RunError, match="configuration of a search of this version"):
        Run.resume(run.folder)


def test_notes_add_up_and_last(run: Run) -> None:
    assert run.state() == {}
    run.note(seconds=1.5, proposals={"drawn": 3})
    run.note(seconds=2.5, precision="bf16")
    assert Run.resume(run.folder).state() == {"seconds": 2.5, "proposals": {"drawn": 3}, "precision": "bf16"}


def test_says_where_trials_and_models_lie(run: Run) -> None:
    assert run.storage == f"sqlite:///{run.folder}/study.db"
    assert run.model_folder("abc") == run.folder / "models" / "abc"


def test_a_run_without_trials_is_removed_and_one_with_trials_stays(run: Run) -> None:
    run.note(seconds=1.0)
    (run.folder / "study.db").write_bytes(b"")
    run.discard()
    assert (run.folder / "config.json").exists()
    (run.folder / "study.db").unlink()
    run.discard()
    assert not run.folder.exists()


def test_what_to_type_to_go_on_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(tmp_path / "my run")
    run.note(seconds=843.0)
    assert run.longer_command == f"medsearch search --resume '{tmp_path}/my run' --time 29m"
    monkeypatch.setattr(plugins, "_named", [])
    plugins.use(["string"])
    assert run.resume_command == f"medsearch --plugin string search --resume '{tmp_path}/my run'"


@pytest.mark.parametrize(
    "state",
    [
        "null",
        "[]",
        '{"seconds": "abc"}',
        '{"seconds": -5}',
        '{"seconds": 1e999}',
        '{"proposals": "x"}',
        '{"proposals": {"drawn": -3}}',
        '{"phases": []}',
        '{"test_reads": "a"}',
        '{"networks": {"memory": 1}}',
        '{"measured": 3}',
        '{"precision": 16}',
    ],
)
def test_a_state_that_no_search_has_written_is_refused(run: Run, state: str) -> None:
    (run.folder / "state.json").write_text(state)
    with pytest.raises(RunError, match=r"state.json: is damaged: .*\n  Delete it to measure again"):
        run.state()


def test_the_run_knows_how_many_trials_there_were(run: Run) -> None:
    assert run.known_trials() == 0
    run.note(trials=2)
    assert run.known_trials() == 2
    run.finish({"trials": [{"state": "complete"}] * 3})
    assert run.known_trials() == 3
