"""A folder that one process works in: real processes, one of them killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from medsearch.core.errors import RunError, WriteError
from medsearch.core.lock import HOLDER, LOCK, hold, release_for_good

HOLDING = """
import multiprocessing, subprocess, sys, time
from pathlib import Path
from medsearch.core.lock import hold

if __name__ == "__main__":
    with hold(Path(sys.argv[1])):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
        spawned = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
        spawned.start()
        print(child.pid, spawned.pid, flush=True)
        time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that holds ``tmp_path / "run"``, and the numbers of its two children."""
    script = tmp_path / "holding.py"
    script.write_text(HOLDING)
    command = [sys.executable, str(script), str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        children = [int(pid) for pid in process.stdout.readline().split()]
        assert len(children) == 2
        yield process, children
        os.killpg(process.pid, signal.SIGKILL)


def test_the_second_process_is_told_who_holds_the_folder(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], list[int]]
) -> None:
    pid, begun = holder[0].pid, time.monotonic()
    with pytest.raises(RunError) as refusal, hold(tmp_path / "run"):
        raise AssertionError("two processes in one folder")
    assert time.monotonic() - begun < 1
    who = rf"process {pid} on {re.escape(socket.gethostname())} has been working on this run since \d{{4}}-\d\d-\d\d "
    assert re.search(who, refusal.value.problem)
    assert f"stop it: kill {pid} " in refusal.value.remedy


def test_a_killed_holder_holds_nothing_though_its_children_live(
    tmp_path: Path, holder: tuple[subprocess.Popen[str], list[int]]
) -> None:
    process, children = holder
    process.kill()
    process.wait()
    assert all(Path(f"/proc/{child}").exists() for child in children)
    with hold(tmp_path / "run"):
        assert f'"pid": {os.getpid()}' in (tmp_path / "run" / HOLDER).read_text()


def test_a_folder_is_free_after_the_block_whatever_happened_in_it(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), hold(tmp_path / "run"):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    with hold(tmp_path / "run"):
        pass


def test_a_holder_on_another_machine_is_to_be_stopped_there(tmp_path: Path) -> None:
    with hold(tmp_path):
        (tmp_path / HOLDER).write_text('{"pid": 7, "host": "node9", "since": "2026-01-02 03:04:05+00:00"}')
        with (
            pytest.raises(RunError, match=r"process 7 on node9 .*\n.* stop it on node9: kill 7 "),
            ExitStack() as stack,
        ):
            stack.enter_context(hold(tmp_path))


def test_a_holder_that_has_not_said_who_it_is_still_holds(tmp_path: Path) -> None:
    with hold(tmp_path):
        for text in ("", "[]", "{}"):
            (tmp_path / HOLDER).write_text(text)
            with pytest.raises(RunError, match="another process is working on this run"), ExitStack() as stack:
                stack.enter_context(hold(tmp_path))


def test_a_folder_can_be_removed_while_it_is_held(tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        release_for_good(tmp_path / "run")
        (tmp_path / "run").rmdir()
    assert not (tmp_path / "run").exists(), "leaving the block does not make it again"


def test_a_place_where_no_folder_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for folder in (tmp_path / "mine.txt", tmp_path / "mine.txt" / "run"):
        with pytest.raises(WriteError, match="cannot be written"), hold(folder):
            raise AssertionError("there is no folder")
