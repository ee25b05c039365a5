"""The same numbers every time, one thread, and none of the user's own files."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
settings.register_profile("medsearch", derandomize=True, deadline=None, database=None)
settings.load_profile("medsearch")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long because it waits comes first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache folder, so that device profiles of this machine are neither read nor written."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEARCH_CACHE", str(folder))
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state; a library that no test has imported yet stays unloaded."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of one mebibyte, which can be filled up."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"a small file system cannot be mounted here: {getattr(problem, 'stderr', problem)}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def fill(disk: Path) -> Callable[[], None]:
    """``fill()``: not a byte more has room on ``disk``; removing ``disk / "filler"`` gives it back."""

    def to_the_brim() -> None:
        with (disk / "filler").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    return to_the_brim
