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

pytestmark = pytest.mark.early
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


def run(folder: Path, *arguments: str, plugin: str = "faults", faults: str = "") -> subprocess.CompletedProcess[str]:
    """One command in ``folder``, with a cache of its own, in which children die as ``plugin`` and ``faults`` say."""
    command = [sys.executable, "-m", "medsearch", "--plugin", plugin, *arguments]
    places = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))), "FAULTS_DONE": str(folder / "done")}
    caches = {"MEDSEARCH_CACHE": str(folder / "cache" / "medsearch"), "XDG_CACHE_HOME": str(folder / "cache")}
    environment = {**os.environ, **places, **caches, "HOME": str(folder), "FAULTS": faults}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def search(folder: Path, *options: str, plugin: str = "faults", faults: str = "") -> dict[str, Any]:
    """The results of a search that has to end well."""
    asked = ["--data", "mine.npz", "--space", "tiny.yaml", *ASKED, *options, "-o", "run"]
    ended = run(folder, "search", *asked, plugin=plugin, faults=faults)
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
    """On a target that no rates travel for, so that parts are exported and timed as they are first met."""
    results = search(folder, "--precision", "bf16", "--target", "torch-cpu", faults=shifted(by))
    assert [trial["state"] for trial in results["trials"]] == ["complete"] * 2
    assert [network["within_budget"] for network in results["delivered"]] == [True]
    told = "\n".join(results["remarks"])
    page = (folder / "run" / "report.md").read_text()
    for entry in shifted(by).split(","):
        place, way = entry.split("=")
        doing = {
            "probe": "probing an operator",
            "export": "exporting a part",
            "timing": "timing in torch-cpu",
        }.get(place, "")
        said = {"hang": "no answer within 8 s", "eat": "out of memory"}.get(way, way)
        assert said in told, (place, told)
        assert said in page
        assert doing in told
    kept = [json.loads(line) for line in (folder / "run" / "deaths.jsonl").read_text().splitlines()]
    assert {death["machine"] for death in kept} == {kept[0]["machine"]}
    assert "torch 2." in kept[0]["machine"]
    _nothing_of_onnxruntime_is_left(folder, str(folder / "run" / results["delivered"][0]["folder"] / "model.pt"))


def _nothing_of_onnxruntime_is_left(folder: Path, model: str) -> None:
    """In the cache, after the search, and a verification and a compression more."""
    verified = run(folder, "verify", model)
    assert verified.returncode == 0, verified.stderr
    compressed = run(folder, "compress", model, "--max-drop", "50", "--epochs", "1")
    assert compressed.returncode in (0, 3), compressed.stderr  # a network this small may well be refused
    left = [path for path in (*folder.glob("cache/*"), *folder.glob(".cache/*")) if path.name != "matplotlib"]
    assert left == [folder / "cache" / "medsearch"]


@pytest.mark.parametrize("options", [("--precision", "bf16"), pytest.param((), marks=pytest.mark.slow)])
def test_a_processor_that_cannot_multiply_in_16_bits_is_trained_on_in_32(
    folder: Path, options: tuple[str, ...]
) -> None:
    """Where 16 bits are asked for, its operators say so before any training dies; else the first step does."""
    results = search(folder, *options, plugin="faulty_processor")
    assert [trial["state"] for trial in results["trials"]] == ["complete"] * 2
    (network,) = results["delivered"]
    assert network["training"]["precision"] == "fp32"
    assert results["recipe"]["precision"] == "fp32"
    kept = [json.loads(line) for line in (folder / "run" / "deaths.jsonl").read_text().splitlines()]
    assert {death["how"] for death in kept} == {"SIGFPE"}
    done = {death["doing"] for death in kept}
    assert done >= ({"probing an operator"} if options else {"timing a training step"})
    assert not {"training", "measuring a training step"} & done
    assert len(kept) <= 2 * 4, "three shapes of an operator, and its kind"
    told = [
        remark for remark in results["remarks"] if remark.startswith("in bf16 aten::convolution_backward.default end")
    ]
    assert len(told) == (1 if options else 0)
    if options:
        assert all("convolution_backward" in death["what"] and "bfloat16" in death["what"] for death in kept)
        faults = (folder / "cache" / "medsearch" / "deaths.jsonl").read_text()
        assert all(json.dumps(death, sort_keys=True) in faults for death in kept)


@pytest.mark.parametrize("plugin", [pytest.param("faults", marks=pytest.mark.slow), "faulty_processor"])
def test_the_doctor_says_what_a_machine_cannot_do(folder: Path, plugin: str) -> None:
    asked = ["--operators", "--data", "mine.npz", "--space", "tiny.yaml", "--json"]
    ended = run(folder, "doctor", *asked, plugin=plugin)
    assert ended.returncode == 0, ended.stderr
    rows = json.loads(ended.stdout)
    counts = {row["what"]: row["here"] for row in rows if row["what"].startswith("training in")}
    assert list(counts) == ["training in fp32, batch 8", "training in bf16, batch 8"]
    assert all(int(said.split()[0]) > 20 for said in counts.values())
    assert counts["training in fp32, batch 8"].endswith("looked at, 0 end their process")
    dead = [row for row in rows if row["what"] == "cannot be done in bf16"]
    if plugin == "faults":  # which is asked for none
        assert dead == []
        assert rows[-1] == {"what": "this machine", "here": "nothing was found that it cannot do"}
    else:
        assert counts["training in bf16, batch 8"].endswith(f"looked at, {len(dead)} end their process")
        assert dead and all("convolution_backward" in row["here"] and "SIGFPE" in row["here"] for row in dead)
        kept = (folder / "cache" / "medsearch" / "deaths.jsonl").read_text().splitlines()
        assert 0 < len(kept) <= 4, "three shapes, and the kind"
