"""A run directory: begun once, resumed as it was asked for, and refused when it is anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsearch.core.errors import RunError
from medsearch.run import Run, Settings

SETTINGS = Settings(
    data="mine.npz", memory_bytes=10**9, latency_ms=20.0, file_bytes=5, fit_batch=True, trials=7, seed=3, compress=True
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", SETTINGS, "medsearch search --trials 7")


def test_a_run_is_resumed_with_what_was_asked(run: Run) -> None:
    again, settings, command = Run.resume(run.folder)
    assert (again.folder, settings, command) == (run.folder, SETTINGS, "medsearch search --trials 7")


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", Settings(), "x").state() == {}


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is there already and not empty") as refusal:
        Run.create(tmp_path, Settings(), "x")
    assert f"--resume {tmp_path}" in refusal.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is there already"):
        Run.create(tmp_path / "mine.txt", Settings(), "x")
    with pytest.raises(RunError, match="cannot be written: Not a directory"):
        Run.create(tmp_path / "mine.txt" / "run", Settings(), "x")


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


def test_a_finished_run_is_not_resumed(run: Run) -> None:
    run.finish({"delivered": []})
    with pytest.raises(RunError, match=r"this search is finished.\n  Read .*report\.md"):
        Run.resume(run.folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"command": "x", "data": null}', "settings of a search of this version"),
        ("[]", "settings of a search of this version"),
        ('{"command": ', "not valid JSON at line 1"),
    ],
)
def test_foreign_settings_are_refused(run: Run, text: str, problem: str) -> None:
    (run.folder / "settings.json").write_text(text)
    with pytest.raises(RunError, match=problem):
        Run.resume(run.folder)


def test_a_setting_of_another_version_is_refused(run: Run) -> None:
    path = run.folder / "settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "green"}))
    with pytest.raises(RunError, match="settings of a search of this version"):
        Run.resume(run.folder)


def test_notes_add_up_and_last(run: Run) -> None:
    assert run.state() == {}
    run.note(seconds=1.5, tally={"drawn": 3})
    run.note(seconds=2.5, precision="bf16")
    assert Run(run.folder).state() == {"seconds": 2.5, "tally": {"drawn": 3}, "precision": "bf16"}


def test_says_where_trials_and_models_lie(run: Run) -> None:
    assert run.storage == f"sqlite:///{run.folder}/study.db"
    assert run.model_folder("abc") == run.folder / "models" / "abc"


def test_a_run_without_trials_is_removed_and_one_with_trials_stays(run: Run) -> None:
    run.note(seconds=1.0)
    (run.folder / "study.db").write_bytes(b"")
    run.discard()
    assert (run.folder / "settings.json").exists()
    (run.folder / "study.db").unlink()
    run.discard()
    assert not run.folder.exists()
