"""The promise of one file: a part in somebody else's package, in one module, works from the command line.

Nothing in medsearch is edited, and nothing in medsearch knows the part; ``--plugin`` names its module.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GUIDE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()


def of_the_guide(part: str) -> str:
    """The module of the guide that registers something with ``part``."""
    (found,) = [text for text in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if f"\n@{part}.add(" in text]
    return str(found)


REGRESSION, READER, EVALUATOR = map(of_the_guide, ("TASKS", "READERS", "EVALUATORS"))

SPACE = """
name: mine
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - dim: 8
    mixer: {choice: [MIXER]}
    channel: {name: mlp, ratio: {choice: [1, 2]}}
"""

MIXER = '''
"""Adds the mean of the whole map."""
from torch import nn

from medsearch.blocks import MIXERS
from medsearch.blocks.nd import BATCH_NORM


@MIXERS.add("mean_map")
class MeanMap(nn.Module):
    FAMILY = "conv"
    NORM = "batch"

    def __init__(self, dim, *, dims):
        super().__init__()
        self.norm = BATCH_NORM[dims](dim)

    def forward(self, x_BCS):
        x_BCS = self.norm(x_BCS)
        return x_BCS - x_BCS.flatten(2).mean(2).reshape(*x_BCS.shape[:2], *(1,) * (x_BCS.ndim - 2))
'''

STRATEGY = '''
"""Always the first network of the space that has not been tried, in the order of their ids."""
import random

from medsearch.nas import STRATEGIES


@STRATEGIES.add("by_id")
class ById:
    def __call__(self, space, history, seed):
        rng = random.Random(seed)
        return min((space.sample(rng) for _ in range(8)), key=lambda genotype: genotype.id)
'''

SMALL = ("--trials", "2", "--epochs-search", "1", "--epochs", "1", "--finalists", "1", "--workers", "1")


def write(folder: Path, source: str, *, mixer: str = "dwconv") -> None:
    """``mypkg/part.py`` with ``source``, a space, and sixteen-pixel images with labels and values."""
    (folder / "mypkg").mkdir()
    (folder / "mypkg" / "__init__.py").touch()
    (folder / "mypkg" / "part.py").write_text(source)
    (folder / "my.yaml").write_text(SPACE.replace("MIXER", mixer))
    images = np.random.default_rng(0).uniform(0, 255, (40, 8, 8)).astype(np.float32)
    splits = {"train": images[:24], "val": images[24:32], "test": images[32:]}
    labels = {f"{name}_labels": np.arange(len(split)) % 2 for name, split in splits.items()}
    values = {f"{name}_values": split.mean((1, 2)) / 100 for name, split in splits.items()}
    kept = {f"{name}_images": split for name, split in splits.items()}
    np.savez(folder / "labels.npz", **kept, **labels)
    np.savez(folder / "values.npz", **kept, **values)


def medsearch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from medsearch.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "--plugin", "mypkg.part", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done


def searched(folder: Path, *options: str) -> dict[str, Any]:
    """The results of a small search."""
    medsearch(folder, "search", "--space", "my.yaml", *SMALL, "-o", "run", *options)
    return json.loads((folder / "run" / "results.json").read_text())


@pytest.mark.early
def test_a_task(tmp_path: Path) -> None:
    """From float targets to what is delivered, the report, and the checks of what was delivered."""
    write(tmp_path, REGRESSION)
    results = searched(tmp_path, "--data", "values.npz")
    assert results["data"]["task"] == "regression"
    assert (results["primary"], results["error_label"]) == ("rmse", "RMSE")
    (network,) = results["delivered"]
    assert network["error"] == network["validation"]["rmse"]
    folder = tmp_path / "run" / network["folder"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "RMSE" in report and "R²" in report
    assert "(B, 1)" in (folder / "backbone.py").read_text()
    alone = subprocess.run([sys.executable, "backbone.py"], cwd=folder, capture_output=True, text=True)
    assert "passed" in alone.stdout, alone.stderr
    found = json.loads(medsearch(tmp_path, "verify", str(folder), "--json").stdout)
    assert found["architecture"] == network["id"]
    findings = medsearch(tmp_path, "data", "check", "values.npz").stdout
    assert "regression" in findings


def test_a_reader(tmp_path: Path) -> None:
    write(tmp_path, READER)
    assert "made: classification, 16x16" in medsearch(tmp_path, "data", "check", "made:3").stdout


@pytest.mark.early
def test_a_mixer_a_reader_and_a_strategy(tmp_path: Path) -> None:
    """In one search, because each takes its time."""
    write(tmp_path, MIXER + READER + STRATEGY, mixer="mean_map")
    results = searched(tmp_path, "--data", "made:3", "--strategy", "by_id")
    assert results["data"]["source"] == "made:3"
    (network,) = results["delivered"]
    assert set(network["mixers"]) == {"mean_map"}
    assert "class MeanMap" in (tmp_path / "run" / network["folder"] / "backbone.py").read_text()


CHECKS = """
from medsearch.testing import check_evaluator, check_mixer, check_reader, check_strategy, check_task

import mypkg.part

check_mixer("mean_map")
check_task("regression")
check_reader("made", "made:3")
check_strategy("by_id")
check_evaluator("untrained")
"""


def test_they_all_keep_their_contracts(tmp_path: Path) -> None:
    write(tmp_path, MIXER + REGRESSION + READER + STRATEGY + EVALUATOR)
    path = os.pathsep.join([str(Path(__file__).parent.parent), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-P", "-c", CHECKS], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.early
def test_an_evaluator(tmp_path: Path) -> None:
    """Trials are scored by it, the delivered network is trained in any case."""
    write(tmp_path, EVALUATOR)
    results = searched(tmp_path, "--data", "labels.npz", "--evaluator", "untrained")
    assert [trial["metrics"] for trial in results["trials"]] == [{}, {}]
    assert all(trial["error"] > 0 for trial in results["trials"])
    assert results["delivered"][0]["epochs"] == 1
    assert "accuracy" in results["delivered"][0]["validation"]
