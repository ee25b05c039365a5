"""Whole searches of a small space that are stopped, extended, and run out of room, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TINY = """\
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - dim: {range: [8, 72]}
    mixer: {name: dwconv, kernel: {choice: [3, 5]}}
    channel: {name: mlp, ratio: {choice: [1, 2]}}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A search of two trials and one finalist on 64 small images."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for name, images in (("train", 64), ("val", 16), ("test", 16)):
        labels = np.arange(images) % 2
        made[f"{name}_labels"] = labels
        made[f"{name}_images"] = (rng.integers(0, 128, (images, 16, 16)) + 100 * labels[:, None, None]).astype(np.uint8)
    np.savez("mine.npz", **made)
    Path("tiny.yaml").write_text(TINY)
    given = "search --data mine.npz --space tiny.yaml --trials 2 --finalists 1 --epochs-search 2 --workers 1"
    return [*given.split(), "--precision", "fp32"]


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "medsearch", *arguments]
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=known, start_new_session=True, **pipes)


def until(search: subprocess.Popen[str], words: str) -> str:
    """What the search says up to and with a line that has ``words``."""
    said = ""
    while words not in said:
        assert search.stdout is not None
        line = search.stdout.readline()
        assert line, said + search.communicate()[1]
        said += line
    return said


def done(*arguments: str, **environment: str) -> str:
    search = start(*arguments, **environment)
    out, err = search.communicate()
    assert search.returncode == 0, out + err
    return out + err


def results_of(run: str) -> dict[str, Any]:
    return json.loads(Path(run, "results.json").read_text())


@pytest.mark.parametrize("all_processes", [False, True], ids=["the search", "its workers as well"])
def test_sigterm_stops_a_search_as_ctrl_c_does(asked: list[str], all_processes: bool) -> None:
    search = start(*asked[:-4], "--trials", "12", "--workers", "2", *asked[-2:], "-o", "run")
    until(search, "] trial 0 ")
    refused = start("search", "--resume", "run")
    message = refused.communicate()[1]
    assert f"process {search.pid} on " in message and f"kill {search.pid}" in message
    assert refused.returncode == 2
    begun = time.monotonic()
    (os.killpg if all_processes else os.kill)(search.pid, signal.SIGTERM)
    out, err = search.communicate()
    assert time.monotonic() - begun < 10
    assert search.returncode == 130, out + err
    expected = "interrupted; what was finished is kept.\n  Go on with: medsearch search --resume run"
    assert expected in err
    assert not Path("run/.holder.json").exists()
    search = start("search", "--resume", "run")
    out = until(search, "going on after ")
    search.kill()
    search.communicate()
    assert int(out.split("going on after ")[1].split()[0]) >= 1


PHASES = ("] searching", "training the finalists", "] delivering", "compressing the best")


def kept(run: Path) -> dict[str, bytes]:
    """Files of finished networks, which no stop may change."""
    return {str(path): path.read_bytes() for path in run.glob("models/*/*")}


def test_a_search_that_is_stopped_in_every_phase_ends_as_one_that_is_not(asked: list[str]) -> None:
    """Stopped as each phase begins, it goes on with that phase; what earlier ones made is there, byte for byte."""
    run, arguments = Path("run"), [*asked, "--epochs", "3", "--compress", "-o", "run"]
    files: dict[str, bytes] = {}
    for phase in PHASES:
        search = start(*arguments)
        out = until(search, phase)
        done_before = PHASES[: max(0, PHASES.index(phase) - 1)]
        assert not any(earlier in out for earlier in done_before if earlier != "] delivering")
        files |= kept(run)
        search.send_signal(signal.SIGTERM)
        rest, err = search.communicate()
        assert search.returncode == 130, out + rest + err
        assert "Go on with: medsearch search --resume run" in err and "Traceback" not in out + rest + err
        arguments = ["search", "--resume", "run"]
        assert {name: kept(run)[name] for name in files} == files
    done(*arguments)
    results = results_of("run")
    assert [trial["state"] for trial in results["trials"] if trial["state"] != "failed"] == ["complete"] * 2
    assert results["delivered"][0]["within_budget"]
    assert "compression" in results or "compression of" in results["remarks"][-1]


def test_a_finished_search_is_extended_killed_and_finished_again(asked: list[str]) -> None:
    done(*asked, "-o", "run")
    first = results_of("run")
    assert (len(first["trials"]), first["delivered"][0]["epochs"], first["remarks"]) == (2, 60, [])

    total = str(round(first["seconds"]["total"]) + 45) + "s"
    search = start("search", "--resume", "run", "--time", total)
    assert "going on after 2 trials, best error" in until(search, "] trial 2 ")
    assert results_of("run") == first
    search.kill()
    search.communicate()
    assert results_of("run") == first

    out = done("search", "--resume", "run")
    last = results_of("run")
    assert "going on after " in out
    assert len(last["trials"]) > 3
    assert [trial["id"] for trial in last["trials"][:2]] == [trial["id"] for trial in first["trials"]]
    assert last["seconds"]["total"] > first["seconds"]["total"] + 5
    assert last["delivered"][0]["epochs"] > 60
    assert last["remarks"][0].startswith("the test split was read 2 times")
    assert json.loads(Path("run/state.json").read_text())["test_reads"] == 2
    assert "the test split was read 2 times" in Path("run/report.md").read_text()

    again = start("search", "--resume", "run")
    assert "this search is finished" in again.communicate()[1]
    assert again.returncode == 2
    out = done("search", "--resume", "run", "--trials", str(len(last["trials"]) + 1))
    assert len(results_of("run")["trials"]) == len(last["trials"]) + 1
    assert results_of("run")["delivered"][0]["epochs"] > 0


def test_a_search_whose_disk_is_full_goes_on_when_there_is_room(
    asked: list[str], disk: Path, fill: Callable[[], None], tmp_path: Path
) -> None:
    """The cache cannot be written either, which is only said."""
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    cache = tmp_path / "no-folder"
    cache.write_text("mine")
    run = str(disk / "run")
    search = start(*asked, "-o", run, MEDSEARCH_CACHE=str(cache))
    out = until(search, "] trial 0 ")
    fill()
    rest, err = search.communicate()
    out += rest
    assert search.returncode == 2, out + err
    assert "cannot be written: " in err and f"{run}/" in err
    assert f"Free some space there. Then go on with: medsearch search --resume {run}" in err
    assert "Traceback" not in out + err
    assert out.count("no-folder is not a folder") == 1 and f"Timings are kept in {run}/profile.json instead" in out

    (disk / "filler").unlink()
    timed = json.loads(Path(run, "profile.json").read_text())["timings"]
    out = done("search", "--resume", run, MEDSEARCH_CACHE=str(cache))
    assert "going on after 1 trial" in out and "no-folder" not in out
    assert len(json.loads(Path(run, "profile.json").read_text())["timings"]) >= len(timed) > 0
    assert results_of(run)["delivered"][0]["within_budget"]


def test_a_disk_that_is_full_in_any_phase_is_named_and_nothing_is_lost(
    asked: list[str], disk: Path, fill: Callable[[], None]
) -> None:
    """Filled as each phase begins, and emptied before the next start."""
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    run, filler = disk / "run", disk / "filler"
    arguments = [*asked, "--epochs", "3", "--compress", "-o", str(run)]
    files: dict[str, bytes] = {}
    for phase in PHASES:
        search = start(*arguments)
        out = until(search, phase)
        files |= kept(run)
        fill()
        rest, err = search.communicate()
        assert search.returncode == 2, (phase, out + rest + err)
        assert f"{run}/" in err and "cannot be written: " in err
        assert f"Go on with: medsearch search --resume {run}" in err.replace("Then go", "Go")
        assert "Traceback" not in out + rest + err
        filler.unlink()
        assert {name: kept(run)[name] for name in files} == files
        arguments = ["search", "--resume", str(run)]
    done(*arguments)
    assert results_of(str(run))["delivered"][0]["within_budget"]
