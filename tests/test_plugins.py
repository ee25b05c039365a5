"""A mixer in somebody else's package, as ``docs/extending.md`` describes it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
MIXER = re.search(r"```python\n(.*?)```", GUIDE, re.S).group(1)  # type: ignore[union-attr]
SPACE = re.search(r"```yaml\n(.*?)```", GUIDE, re.S).group(1)  # type: ignore[union-attr]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A working directory with the guide's ``mypkg/mixers.py`` and ``my.yaml``."""
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "__init__.py").touch()
    (tmp_path / "mypkg" / "mixers.py").write_text(MIXER)
    (tmp_path / "my.yaml").write_text(SPACE)
    return tmp_path


def medsearch(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    code = "import sys; from medsearch.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), path])},
    )


def test_a_named_module_is_used_in_a_space(package: Path) -> None:
    done = medsearch(package, "--plugin", "mypkg.mixers", "spaces", "count", "my.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"space": "mine", "architectures": 2 * (2 + 1), "genes": 3}]


def test_a_part_that_is_not_named_is_unknown_and_the_message_says_how_to_name_it(package: Path) -> None:
    done = medsearch(package, "search", "--space", "my.yaml", "--trials", "1")
    assert done.returncode == 2
    assert "unknown token mixer 'gated_depthwise'" in done.stderr
    assert "--plugin" in done.stderr


def test_a_module_that_is_not_there_is_refused(package: Path) -> None:
    done = medsearch(package, "--plugin", "mypkg.missing", "spaces", "list")
    assert done.returncode == 2
    assert done.stderr.startswith("medsearch: --plugin mypkg.missing: cannot be imported: ModuleNotFoundError")


def test_a_part_that_is_there_already_is_refused(package: Path) -> None:
    (package / "mypkg" / "mixers.py").write_text(MIXER.replace("gated_depthwise", "dwconv"))
    done = medsearch(package, "--plugin", "mypkg.mixers", "search", "--space", "my.yaml", "--trials", "1")
    assert done.returncode == 2
    assert "token mixer 'dwconv': is defined twice" in done.stderr


def test_an_installed_package_needs_no_option(package: Path) -> None:
    info = package / "mypkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mypkg\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[medsearch.plugins]\nmypkg = mypkg.mixers\n")
    code = "from medsearch.blocks import MIXERS; print(MIXERS['gated_depthwise'].__module__)"
    path = os.pathsep.join([str(Path(__file__).parent.parent), str(package)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip() == "mypkg.mixers", done.stderr


def test_the_tests_of_the_guide_pass(package: Path) -> None:
    reader, tests = (
        next(code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.S) if found in code)
        for found in ("@READERS.add(", "from medsearch.testing import")
    )
    (package / "mypkg" / "readers.py").write_text(reader)
    (package / "test_mypkg.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mypkg.py"],
        cwd=package,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent.parent), str(package)])},
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_it_is_searched_trained_exported_and_runs_alone(package: Path) -> None:
    run = ("--trials", "2", "--epochs", "1", "--epochs-search", "1", "--finalists", "1", "-o", "run")
    done = medsearch(package, "--plugin", "mypkg.mixers", "search", "--space", "my.yaml", *run)
    assert done.returncode == 0, done.stderr
    (written,) = (package / "run" / "models").glob("*/backbone.py")
    assert "class GatedDepthwise" in written.read_text()
    assert "medsearch.blocks" not in written.read_text()
    alone = subprocess.run([sys.executable, written.name], cwd=written.parent, capture_output=True, text=True)
    assert "passed" in alone.stdout, alone.stderr
