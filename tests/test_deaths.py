"""Whatever ends a child of a search, the search goes on: real processes, really killed, in every place it uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("probe", "export", "timing", "trial", "finalist", "delivery")
WAYS = ("SIGFPE", "SIGSEGV", "SIGKILL", "SIGABRT", "hang", "eat")

SPACE = """\
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - {dim: {choice: [8, 16]}, mixer: {name: dwconv, kernel: {choice: [3, 5]}}, channel: {name: mlp, ratio: 2}}
"""
ASKED = ["--trials", "2", "--epochs-search", "1", "--epochs", "1", "--finalists", "1", "--workers", "1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a small data set and a space of four networks."""
    rng, made = np.random.default_rng(0), {}
    for name, images in (("train", 32), ("val", 16), ("test", 16)):
        made[f"{name}_images"] = rng.integers(0, 256, (images, 16, 16), np.uint8)
        made[f"{name}_labels"] = np.arange(images) % 2
    np.savez(tmp_path / "mine.npz", **made)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    (tmp_path / "done").mkdir()
    return tmp_path


def run(folder: Path, *arguments: str, faults: str = "") -> subprocess.CompletedProcess[str]:
    """One command in ``folder``, with a cache of its own, in which children die as ``faults`` says."""
    command = [sys.executable, "-m", "medsearch", *(["--plugin", "faults"] if faults else []), *arguments]
    places = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))), "FAULTS_DONE": str(folder / "done")}
    caches = {"MEDSEARCH_CACHE": str(folder / "cache" / "medsearch"), "XDG_CACHE_HOME": str(folder / "cache")}
    environment = {**os.environ, **places, **caches, "HOME": str(folder), "FAULTS": faults}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def search(folder: Path, *, faults: str = "", precision: str = "bf16") -> dict[str, Any]:
    """The results of a search that has to end well."""
    asked = ["--data", "mine.npz", "--space", "tiny.yaml", *ASKED, "--precision", precision, "-o", "run"]
    ended = run(folder, "search", *asked, faults=faults)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    results: dict[str, Any] = json.loads((folder / "run" / "results.json").read_text())
    happened = sorted(path.name.split("-")[0] for path in (folder / "done").iterdir())
    assert happened == sorted(entry.split("=")[0] for entry in faults.split(",") if entry)
    return results


def shifted(by: int) -> str:
    """Each place dies in a way of its own; over six shifts every place has died in every way."""
    return ",".join(f"{place}={WAYS[(index + by) % len(WAYS)]}" for index, place in enumerate(PLACES))


@pytest.mark.parametrize("by", [0, *(pytest.param(by, marks=pytest.mark.slow) for by in range(1, len(WAYS)))])
def test_a_search_in_which_a_child_dies_in_every_place_ends_well_and_says_what_happened(folder: Path, by: int) -> None:
    results = search(folder, faults=shifted(by))
    assert [trial["state"] for trial in results["trials"]] == ["complete"] * 2
    assert [network["within_budget"] for network in results["delivered"]] == [True]
    told = "\n".join(results["remarks"])
    page = (folder / "run" / "report.md").read_text()
    for entry in shifted(by).split(","):
        place, way = entry.split("=")
        doing = {
            "probe": "probing an operator",
            "export": "exporting a part",
            "timing": "timing in onnxruntime-cpu",
        }.get(place, "")
        said = {"hang": "no answer within 8 s", "eat": "out of memory"}.get(way, way)
        assert said in told, (place, told)
        assert said in page
        assert doing in told
    kept = [json.loads(line) for line in (folder / "run" / "deaths.jsonl").read_text().splitlines()]
    assert {death["machine"] for death in kept} == {kept[0]["machine"]}
    assert "torch 2." in kept[0]["machine"]
