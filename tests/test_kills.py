"""A search that is killed again and again, at moments that nobody chose, is the search it would have been."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
KILLS, TRIALS = 12, 8

SPACE = """\
name: small
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - dim: {choice: [8, 16]}
    mixer: &mixer {name: dwconv, kernel: {choice: [3, 5]}}
    channel: &channel {name: mlp, ratio: {choice: [1, 2]}}
  - {dim: {choice: [16, 32]}, mixer: *mixer, channel: *channel}
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEDSEARCH_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "medsearch", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, cwd=folder, **pipes)


def finish(folder: Path, *arguments: str) -> None:
    ended = start(folder, *arguments)
    said = ended.communicate()[0]
    assert ended.returncode == 0, said


def ended_trials(run: Path) -> list[tuple[int, str, str]]:
    """Number, state and facts of the trials that have ended, as the database has them."""
    if not (run / "study.db").exists():
        return []
    with closing(sqlite3.connect(run / "study.db")) as database:
        query = "SELECT number, state, value_json FROM trials JOIN trial_user_attributes USING (trial_id) "
        query += "WHERE state = 'COMPLETE' AND key = 'objectives' ORDER BY number"
        return database.execute(query).fetchall()


def models(run: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in run.glob("models/*/model.pt")}


def found(run: Path) -> tuple[list[Any], list[Any]]:
    """What was tried, in order, with the errors; and the front."""
    trials = json.loads((run / "results.json").read_text())["trials"]
    good = [trial for trial in trials if trial["state"] == "complete"]
    return [(trial["id"], trial["error"]) for trial in good], [trial["id"] for trial in good if trial["front"]]


@pytest.mark.slow
def test_killed_at_random_moments_a_search_finds_what_it_would_have_found(tmp_path: Path) -> None:
    rng, made = np.random.default_rng(0), {}
    for name, images in (("train", 256), ("val", 64), ("test", 32)):
        made[f"{name}_images"] = rng.integers(0, 256, (images, 16, 16), np.uint8)
        made[f"{name}_labels"] = np.arange(images) % 2
    np.savez(tmp_path / "mine.npz", **made)
    (tmp_path / "small.yaml").write_text(SPACE)
    of = ["--data", "mine.npz", "--space", "small.yaml"]
    finish(tmp_path, "doctor", "--profile", *of)  # so that latencies are read off, and the same each time

    asked = ["--trials", str(TRIALS), "--epochs-search", "3", "--epochs", "3", "--finalists", "2", "--workers", "1"]
    one, other = tmp_path / "one", tmp_path / "other"
    search = start(tmp_path, "search", *of, *asked, "--precision", "fp32", "-o", str(one))
    while "networks" not in json.loads((one / "state.json").read_text() if (one / "state.json").exists() else "{}"):
        assert search.poll() is None, search.communicate()
        time.sleep(0.05)
    search.kill()
    search.communicate()
    shutil.copytree(one, other)
    finish(tmp_path, "search", "--resume", str(one))

    moments = random.Random(0)
    for _ in range(KILLS):
        trials, saved = ended_trials(other), models(other)
        search = start(tmp_path, "search", "--resume", str(other))
        try:
            search.wait(moments.uniform(1, 14))
        except subprocess.TimeoutExpired:
            search.send_signal(signal.SIGKILL)
        search.communicate()
        assert ended_trials(other)[: len(trials)] == trials
        assert {name: models(other)[name] for name in saved} == saved
        if (other / "results.json").exists():  # it was quick: again from before its end
            (other / "results.json").unlink()
            for folder in sorted((other / "models").iterdir())[1:]:
                shutil.rmtree(folder)
    finish(tmp_path, "search", "--resume", str(other))
    assert found(other) == found(one)
    assert len(found(one)[0]) == TRIALS
