"""Going on with a run: where data and space may be, and what they may not have become."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsearch.config import SearchConfig, read_values
from medsearch.core.errors import DataError, MedsearchError, RunError, SpaceError
from medsearch.pipeline.begin import begin, go_on
from medsearch.pipeline.setup import Setup
from medsearch.run import Run

TINY = """\
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify, denoising: pyramid}
stages:
  - {dim: {choice: [8, 16]}, mixer: {name: dwconv, kernel: {choice: [3, 5]}}, channel: {name: mlp, ratio: 2}}
"""


def begun(out: Path, **given: Any) -> AbstractContextManager[tuple[Run, Setup]]:
    return begin(SearchConfig.read(given), out=out, command="medsearch search")


def write_npz(path: Path, *, value: int = 0, size: int = 16, classes: int = 2, count: int = 12) -> None:
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for name, images in (("train", count), ("val", 4), ("test", 4)):
        made[f"{name}_images"] = rng.integers(0, 200, (images, size, size), np.uint8) + np.uint8(value)
        made[f"{name}_labels"] = np.arange(images) % classes
    np.savez(path, **made)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that was begun by relative paths from a folder that is not that of the test any more."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    write_npz(Path("mine.npz"))
    Path("tiny.yaml").write_text(TINY)
    with begun(tmp_path / "run", data="mine.npz", space="tiny.yaml") as (run, _):
        pass
    monkeypatch.chdir(tmp_path)
    return run


def resume(**given: Any) -> Run:
    with go_on(Path("run"), read_values(given, where="--resume")) as (run, setup):
        assert setup.space.name == "tiny"
    return run


def refused(error: type[MedsearchError], **given: Any) -> str:
    """What is said, with nothing changed in the run."""
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    with pytest.raises(error) as refusal:
        resume(**given)
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    return str(refusal.value)


def test_paths_are_kept_in_full_and_the_run_goes_on_from_any_folder(run: Run, tmp_path: Path) -> None:
    kept = json.loads((run.folder / "config.json").read_text())
    there = tmp_path / "there"
    assert (kept["data"], kept["space"]) == (str(there / "mine.npz"), str(there / "tiny.yaml"))
    assert kept["inputs"]["data"]["images"] == {"train": 12, "val": 4, "test": 4}
    assert resume().config == run.config


def test_a_name_is_no_path_whatever_lies_there(run: Run) -> None:
    Path("brain2d").mkdir()
    Path("tiny").mkdir()
    config = SearchConfig.read({"data": "brain2d", "space": "tiny"})
    assert (config.data, config.space) == ("brain2d", "tiny")


def test_two_processes_do_not_go_on_with_one_run(run: Run) -> None:
    with go_on(Path("run"), {}):
        message = refused(RunError)
    assert f"process {os.getpid()} on " in message


def test_data_that_were_moved_are_asked_for_and_then_remembered(run: Run) -> None:
    Path("there/mine.npz").rename("moved.npz")
    message = refused(DataError)
    assert "there/mine.npz: the images that this run was begun with are no longer there" in message
    assert "medsearch search --resume run --data PLACE" in message
    assert resume(data="moved.npz").config.data == str(Path.cwd() / "moved.npz")
    assert resume().config.data == str(Path.cwd() / "moved.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"value": 3}, ["the mean of the training images: 1", " (was 9"]),
        ({"size": 20}, ["the size of an image: 20, 20 (was 16, 16)"]),
        ({"count": 14}, ["images of train: 14 (was 12)", "targets of train of class 1: 7 (was 6)"]),
        (
            {"classes": 3},
            ["classes: class 0, class 1, class 2 (was class 0, class 1)", "of class 2: 4 (was none)", "more"],
        ),
    ],
    ids=str,
)
def test_other_data_are_refused_with_what_differs(run: Run, changes: dict[str, int], words: list[str]) -> None:
    write_npz(Path("other.npz"), **changes)
    moved = refused(DataError, data="other.npz")
    shutil.copy("other.npz", "there/mine.npz")
    in_place = refused(DataError)
    for message in (moved, in_place):
        assert "is not what this run was begun with: " in message
        assert all(word in message for word in words)
        assert "--data PLACE" in message


def test_targets_in_another_order_are_other_data(run: Run) -> None:
    with np.load("there/mine.npz") as old:
        arrays = dict(old)
    arrays["val_labels"] = arrays["val_labels"][::-1]
    np.savez("there/mine.npz", **arrays)
    assert "images or targets have other values" in refused(DataError)


def test_remarks_in_the_space_may_change(run: Run) -> None:
    Path("there/tiny.yaml").write_text("# for edge devices\n" + TINY.replace("{name: conv, ", "{ name:  conv, "))
    assert resume().config == run.config


def test_another_space_is_refused_with_what_differs_and_the_old_one_is_at_hand(run: Run) -> None:
    Path("there/tiny.yaml").write_text(TINY.replace("[3, 5]", "[3, 5, 7]").replace("ratio: 2", "ratio: 3"))
    message = refused(SpaceError)
    assert "stages.0.mixer.kernel is one of 3, 5, 7 (was one of 3, 5)" in message
    assert "stages.0.channel.ratio is 3 (was 2)" in message
    assert "medsearch search --resume run --space run/space.yaml" in message
    assert resume(space="run/space.yaml").config.space == str(Path.cwd() / "run" / "space.yaml")
    resume()
    Path("run/space.yaml").write_text(TINY.replace("[8, 16]", "[8, 24]"))
    assert "run/space.yaml was changed as well" in refused(SpaceError)


@pytest.mark.parametrize("text", [None, "name: tiny\n", TINY.replace("dwconv", "dwcov"), "{"])
def test_a_space_that_is_gone_or_broken_is_named_with_the_old_one(run: Run, text: str | None) -> None:
    path = Path("there/tiny.yaml")
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    assert "medsearch search --resume run --space run/space.yaml" in refused(SpaceError)


def test_new_limits_are_kept_and_time_is_shared_out_anew(run: Run) -> None:
    run.note(seconds=90.0, plan={"first": None, "epochs": 3, "search_end": 60.0}, trained={"abc": 3.5})
    again = resume(time="10m", trials=4)
    assert (again.config.time, again.config.trials) == (600.0, 4)
    assert again.state().items() >= {"plan": {"first": None, "epochs": 3}, "trained": {}, "seconds": 90.0}.items()
    again.note(plan={"search_end": 200.0})
    again = resume(time="10m")
    assert (again.config.trials, again.state()["plan"]) == (4, {"search_end": 200.0})
    again.finish({"delivered": [], "trials": [{"state": "complete"}] * 4})
    again = resume(trials=9)
    assert (again.config.time, again.config.trials, again.finished) == (None, 9, False)


def test_what_a_killed_writer_left_is_removed(run: Run) -> None:
    (run.folder / "models").mkdir()
    (run.folder / "models" / ".0123abcd.model.pt").write_bytes(b"half")
    resume()
    assert list((run.folder / "models").iterdir()) == []


def test_nothing_is_begun_where_something_lies(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RunError, match="is there already and not empty"), begun(Path("run")):
        raise AssertionError("two runs in one folder")


def test_a_run_that_cannot_be_begun_leaves_no_folder(disk: Path, fill: Callable[[], None], run: Run) -> None:
    fill()
    asked = begun(disk / "run", data="there/mine.npz", space="there/tiny.yaml")
    with pytest.raises(RunError, match="cannot be written: No space left on device"), asked:
        raise AssertionError("there is no room")
    assert [path.name for path in disk.iterdir()] == ["filler"]
