"""A target of somebody else in a whole search: what is delivered is its file, and is measured and verified on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medsearch.core import plugins
from medsearch.core.errors import MedsearchError
from medsearch.exporters.checkpoint import load_model
from medsearch.measurement.latency import timer
from medsearch.pipeline.bench import bench
from medsearch.pipeline.export import export_checkpoint
from medsearch.pipeline.verification import verify
from medsearch.targets import TARGETS

ROOT = Path(__file__).parents[2]
SPACE = """\
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - {dim: {choice: [8, 16]}, mixer: {name: dwconv, kernel: 3}, channel: {name: mlp, ratio: 2}}
"""
ASKED = "--trials 1 --epochs-search 1 --epochs 1 --finalists 1 --workers 1 --precision fp32 -o run".split()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with the package ``mypkg``, whose module ``target`` has one, a data set and a space."""
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "__init__.py").touch()
    (tmp_path / "mypkg" / "target.py").write_text(Path(__file__).with_name("sleeping.py").read_text())
    rng, made = np.random.default_rng(0), {}
    for name, images in (("train", 32), ("val", 16), ("test", 16)):
        made[f"{name}_images"] = rng.integers(0, 256, (images, 16, 16), np.uint8)
        made[f"{name}_labels"] = np.arange(images) % 2
    np.savez(tmp_path / "mine.npz", **made)
    (tmp_path / "tiny.yaml").write_text(SPACE)
    return tmp_path


@pytest.mark.early
def test_a_search_delivers_its_file_measured_on_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = ("--budget-latency", "1s", "--budget-file", "1MB")
    results = _searched(folder, "--plugin", "mypkg.target", "search", "--target", "sleeper", *limits)
    (delivered,) = results["delivered"]
    assert (results["machine"]["target"], results["machine"]["runtime"]) == ("sleeper", "sleeper 1.0")
    models = folder / "run" / delivered["folder"]
    size = (models / "model.pickle").stat().st_size
    assert delivered["costs"]["file"]["measured"] == size
    assert delivered["onnx_bytes"] == (models / "model.onnx").stat().st_size
    # A run of the sleeper takes 10 ns a byte, and what the system takes to wake it.
    assert size * 1e-5 <= delivered["costs"]["latency"]["measured"] < size * 1e-5 + 2
    certificate = json.loads((models / "budget.json").read_text())
    assert certificate["conditions"]["inference_target"] == "sleeper"
    assert certificate["device"]["runtime"] == "sleeper 1.0"

    with pytest.raises(MedsearchError, match="inference_target: unknown choice 'sleeper'"):
        verify(models)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(plugins, "_named", [])
    monkeypatch.setattr(TARGETS, "_parts", dict(TARGETS._load()))
    timer.restart()
    plugins.use(["mypkg.target"])
    _works_from_python(models)


def _searched(folder: Path, *arguments: str) -> dict[str, object]:
    command = [sys.executable, "-m", "medsearch", *arguments, "--data", "mine.npz", "--space", "tiny.yaml", *ASKED]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads((folder / "run" / "results.json").read_text())
    return found


def _works_from_python(models: Path) -> None:
    """Verified, exported by ending and by name, and timed beside ONNX Runtime."""
    found = verify(models)
    assert (found["verdict"], found["device"]["runtime"], found["remarks"]) == ("within budget", "sleeper 1.0", [])
    checkpoint = load_model(models / "model.pt")
    assert ": for sleeper, " in export_checkpoint(checkpoint, Path("own.pickle"))
    assert ": for torch-cpu, " in export_checkpoint(checkpoint, Path("own.pt2"), target="torch-cpu")
    with pytest.raises(MedsearchError, match="-o: the files of 'sleeper' end in .pickle, got 'own.onnx'"):
        export_checkpoint(checkpoint, Path("own.onnx"), target="sleeper")
    rows = bench([models / "model.onnx", Path("own.pickle"), Path("own.pt2")], threads=1)
    assert [row["target"] for row in rows] == ["onnxruntime-cpu", "sleeper", "torch-cpu"]
    Path("own.pickle").write_text("hello")
    with pytest.raises(MedsearchError, match="own.pickle: is not a model that sleeper can open"):
        bench([Path("own.pickle")], threads=1)
