"""What docs/tutorial.md and README.md show of Python runs: the tutorial as it stands, in one process."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import medsearch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
CODE = "".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
FILES = {re.search("name: (.*)", text)[1]: text for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)}  # type: ignore[index]
LINES = 30
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len([line for line in CODE.splitlines() if line.strip()]) <= LINES


def test_the_files_that_it_shows_are_those_that_it_names() -> None:
    assert {f"{name}.yaml" for name in FILES} == set(re.findall(r"in `(\w+\.yaml)`", PAGE))
    assert 'recipe="quick.yaml"' in CODE and "space: small.yaml" in FILES["quick"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it was done, as a script does it."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
    top, below = _split(CODE)
    body = "\n".join(f"    {line}" for line in below.splitlines())
    (folder / "script.py").write_text(f'{top}\nif __name__ == "__main__":\n{body}\n')
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder


def _split(code: str) -> tuple[str, str]:
    """The imports, and what comes after them."""
    last = max(node.end_lineno or 0 for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom))
    lines = code.splitlines()
    return "\n".join(lines[:last]), "\n".join(lines[last:])


@pytest.fixture(scope="module")
def result(folder: Path) -> medsearch.SearchResult:
    """What it found."""
    (run,) = (folder / "runs").iterdir()
    return medsearch.SearchResult.read(run)


@pytest.mark.early
def test_it_searches_within_its_budget(result: medsearch.SearchResult) -> None:
    assert [trial["state"] for trial in result.trials] == ["complete"] * 2
    assert result.best.data["within_budget"] and result.report.exists()


@pytest.mark.early
def test_it_compresses_or_says_why_not(folder: Path, result: medsearch.SearchResult) -> None:
    file = result.best.folder / "compressed" / "int8.onnx"
    assert file.exists() or "is good enough" in (folder / "printed").read_text()


@pytest.mark.early
def test_what_it_takes_away_is_the_network_for_two_classes(folder: Path) -> None:
    (output,) = onnx.load(folder / "network.onnx").graph.output
    assert output.type.tensor_type.shape.dim[-1].dim_value == 2
    alone = subprocess.run([sys.executable, "backbone.py"], cwd=folder, capture_output=True, text=True)
    assert "passed" in alone.stdout, alone.stderr


@pytest.mark.early
def test_the_example_of_the_readme_runs(
    result: medsearch.SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what the tutorial found in place of a search of half an hour; compressing is checked to be called right."""

    def search(*given: Any, **named: Any) -> medsearch.SearchResult:
        asked = signature["search"].bind(*given, **named).arguments
        assert medsearch.SearchConfig.read(asked).time == 30 * 60
        return result

    signature = {name: inspect.signature(getattr(medsearch, name)) for name in ("search", "compress")}
    monkeypatch.setattr(medsearch, "search", search)
    monkeypatch.setattr(medsearch, "compress", signature["compress"].bind)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    exec(code, {})
    assert {path.name for path in tmp_path.iterdir()} == {"mynet.py", "mynet.pt"}
