"""A cost in somebody else's package, in one module: limited, made small, certified and reported like a shipped one."""

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

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "extending.md").read_text()
(ENERGY,) = [text for text in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if "@COSTS.add(" in text]

NODES = '''
"""Nodes of the ONNX graph: can only be measured."""
from medsearch.measurement.costs import COSTS, Cost
from medsearch.measurement.estimate import Estimate


@COSTS.add("nodes")
class Nodes(Cost):
    option, unit, example, about, title = "nodes", "nodes", "90nodes", "nodes of the ONNX graph", "nodes"
    of_file = True

    def measure(self, asked):
        import onnx

        return Estimate.exact(len(onnx.load_from_string(asked.artifact).graph.node), self.unit, "measured")
'''

SPACE = """
name: mine
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - dim: 8
    depth: {choice: [1, 3]}
    mixer: dwconv
    channel: {name: mlp, ratio: {choice: [1, 4]}}
"""
LIMIT = 20
"""Nodes: one block is 14, three are 26."""
SMALL = ("--trials", "2", "--epochs-search", "1", "--epochs", "1", "--finalists", "1", "--workers", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with both costs, a space of four networks, and sixteen-pixel images."""
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "__init__.py").touch()
    (tmp_path / "mypkg" / "costs.py").write_text(ENERGY)
    (tmp_path / "mypkg" / "nodes.py").write_text(NODES)
    (tmp_path / "my.yaml").write_text(SPACE)
    images = np.random.default_rng(0).uniform(0, 255, (40, 16, 16)).astype(np.float32)
    splits = {"train": images[:24], "val": images[24:32], "test": images[32:]}
    labels = {f"{name}_labels": np.arange(len(split)) % 2 for name, split in splits.items()}
    np.savez(tmp_path / "data.npz", **{f"{name}_images": split for name, split in splits.items()}, **labels)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def searched(folder: Path, module: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A small search that knows the costs of ``mypkg.<module>``."""
    code = "import sys; from medsearch.cli import main; sys.exit(main())"
    search = ("--plugin", f"mypkg.{module}", "search", "--data", "data.npz", "--space", "my.yaml", "-o", "run")
    return python(folder, "-c", code, *search, *SMALL, *options)


def delivered(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The results, and the certificate of the best network."""
    results = json.loads((folder / "run" / "results.json").read_text())
    best = results["delivered"][0]
    return results, json.loads((folder / "run" / best["folder"] / "budget.json").read_text())


def test_a_predicted_cost_is_limited_certified_and_reported(folder: Path) -> None:
    done = searched(folder, "costs", "--budget-energy", "0.4uJ", "--objectives", "energy")
    assert done.returncode == 0, done.stderr
    results, certificate = delivered(folder)
    assert results["objectives"] == ["energy"]
    assert all(next(iter(trial["costs"])) == "energy" for trial in results["trials"])
    assert all(trial["costs"]["energy"]["high"] <= 4e-7 for trial in results["trials"])
    found = results["delivered"][0]["costs"]["energy"]
    assert found["unit"] == "J" and found["low"] < found["predicted"] < found["high"]
    assert found["predicted"] == pytest.approx(found["measured"])
    assert found["measured"] == pytest.approx(4.6e-12 * results["delivered"][0]["costs"]["macs"]["measured"])
    assert certificate["limits"]["energy"]["limit"] == 4e-7
    assert certificate["limits"]["energy"]["verdict"] == "kept"
    assert "energy ≤ 400 nJ (arithmetic alone, 32 bits, 45 nm)" in (folder / "run" / "report.md").read_text()


@pytest.mark.parametrize(
    ("module", "option", "limit"), [("costs", "--budget-energy", "1nJ"), ("nodes", "--budget-nodes", "2nodes")]
)
def test_a_limit_that_nothing_keeps_is_refused_before_anything_is_trained(
    folder: Path, module: str, option: str, limit: str
) -> None:
    done = searched(folder, module, option, limit, "--objectives", "macs")
    assert done.returncode == 2, done.stderr
    assert f"{option}: no" in done.stderr and "the smallest needs" in done.stderr
    assert not (folder / "run").exists()


def test_a_cost_that_can_only_be_measured_is_limited_too(folder: Path) -> None:
    done = searched(folder, "nodes", "--budget-nodes", f"{LIMIT}nodes", "--objectives", "nodes,macs")
    assert done.returncode == 0, done.stderr
    results, certificate = delivered(folder)
    assert {trial["costs"]["nodes"]["predicted"] for trial in results["trials"]} == {None}
    assert all(0 < trial["costs"]["nodes"]["measured"] <= LIMIT for trial in results["trials"])
    assert certificate["limits"]["nodes"]["predicted"] is None
    assert 0 < certificate["limits"]["nodes"]["measured"]["value"] <= LIMIT
    assert "nodes" in done.stdout


def test_python_knows_it_too_and_its_author_can_check_it(folder: Path) -> None:
    script = """
import medsearch
from medsearch.core.plugins import use
from medsearch.testing import check_cost

if __name__ == "__main__":
    use(["mypkg.costs", "mypkg.nodes"])
    check_cost("energy")
    check_cost("nodes")
    asked = {"data": "data.npz", "space": "my.yaml", "objectives": ["energy"], "budget": {"energy": "1uJ"}}
    small = {"trials": 1, "epochs_search": 1, "epochs": 1, "finalists": 1, "workers": 1}
    found = medsearch.search(**asked, **small, out="run")
    print(found.data["delivered"][0]["costs"]["nodes"]["measured"])
"""
    (folder / "script.py").write_text(script)
    done = python(folder, "script.py")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0
