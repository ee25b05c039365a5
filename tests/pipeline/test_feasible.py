"""What is measured before a trial: nothing where limits are far, and what is in doubt until it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SPACE = """\
name: small
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - {dim: {choice: [8, 16, 64]}, mixer: {name: dwconv, kernel: {choice: [3, 5]}}, channel: {name: mlp, ratio: 2}}
"""
ASKED = "--trials 2 --epochs-search 1 --epochs 1 --finalists 1 --workers 1 --precision fp32 -o run".split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a small data set and a space of six networks."""
    rng, made = np.random.default_rng(0), {}
    for name, images in (("train", 32), ("val", 16), ("test", 16)):
        made[f"{name}_images"] = rng.integers(0, 256, (images, 16, 16), np.uint8)
        made[f"{name}_labels"] = np.arange(images) % 2
    np.savez(tmp_path / "mine.npz", **made)
    (tmp_path / "small.yaml").write_text(SPACE)
    return tmp_path


def search(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medsearch", "search", "--data", "mine.npz", "--space", "small.yaml", *ASKED]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEDSEARCH_CACHE": str(folder / "cache")}
    return subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, env=environment)


def profile(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "cache").glob("profile-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "results.json").read_text())
    return found


def test_where_limits_are_far_nothing_is_timed_but_what_is_delivered(folder: Path) -> None:
    done = search(folder, "--budget-latency", "10s", "--budget-mem", "10GB")
    assert done.returncode == 0, done.stdout + done.stderr
    found, kept = results(folder), profile(folder)
    assert "measured before its trial" not in done.stdout + done.stderr
    assert kept["timings"] == [] and kept["overhead_ms"] is None and kept["pace_ms"] > 0
    assert {trial["costs"]["latency"]["measured"] for trial in found["trials"]} == {None}
    (delivered,) = found["delivered"]
    assert delivered["costs"]["latency"]["measured"] > 0
    assert {len(networks) for networks in kept["networks"].values()} == {1}
    assert {name: entry["networks"] for name, entry in found["prediction"].items()} == {"latency": 1, "memory": 1}


def test_what_is_in_doubt_is_measured_and_no_trial_is_over_the_limit(folder: Path) -> None:
    """The limit lies within the interval of the smallest network, as the search itself predicts it."""
    first = search(folder, "--budget-params", "100M")
    assert first.returncode == 0, first.stdout + first.stderr
    rows = [trial["costs"]["latency"] for trial in results(folder)["trials"]]
    limit = max(row["predicted"] for row in rows) * 1.3
    done = search(folder, "--budget-latency", f"{limit}ms", "-o", "second")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "second" / "results.json").read_text())
    assert profile(folder)["timings"], "the parts of what was in doubt were timed"
    for trial in found["trials"]:
        latency = trial["costs"]["latency"]
        assert (latency["measured"] or latency["high"]) <= limit
    assert all(network["costs"]["latency"]["measured"] <= limit for network in found["delivered"])


@pytest.mark.parametrize("limit", [("--budget-mem", "1kB"), ("--budget-latency", "1us")])
def test_a_limit_that_nothing_keeps_is_refused_without_training_or_timing_a_network(
    folder: Path, limit: tuple[str, str]
) -> None:
    done = search(folder, *limit)
    assert done.returncode == 2
    assert f"{limit[0]}: no network of space 'small' fits" in done.stderr and "the smallest needs" in done.stderr
    assert not (folder / "run").exists()
    assert all(json.loads(path.read_text())["timings"] == [] for path in (folder / "cache").glob("profile-*.json"))
