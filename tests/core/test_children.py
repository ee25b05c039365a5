"""Child processes that are allowed to die: what becomes of what they did, of the others, and of those who ask."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsearch.core.children import HERE, ChildDied, Children, available_memory, say
from medsearch.core.errors import BudgetError, MedsearchError, UsageError

SIGNALS = ["SIGKILL", "SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL"]
HELD = 2**30


def kill_itself(name: str) -> None:
    os.kill(os.getpid(), signal.Signals[name])


def hang() -> None:
    while True:
        time.sleep(1)


def eat(limit: int) -> int:
    """Take memory piece by piece; returns how much it was before there was no more."""
    pieces = []
    while len(pieces) < limit // 2**24:
        pieces.append(np.ones(2**24, np.uint8))
    return len(pieces) * 2**24


def wait(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def refuse(where: str) -> None:
    raise BudgetError(where, "does not fit.", "Make it smaller.")


def refuse_oddly() -> None:
    class Odd(Exception):
        """Cannot be pickled: it lives in a function."""

    raise Odd("of this place")


def tell(lines: int) -> str:
    for i in range(lines):
        say(f"line {i}")
    print("to standard output")
    return "told"


def ignored() -> list[bool]:
    return [signal.getsignal(number) is signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]


def scores() -> tuple[int, int]:
    return tuple(int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (os.getpid(), os.getppid()))


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with Children(2, memory=HELD) as made:
        yield made


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_one_thing_and_the_other_child_never_notices(children: Children, name: str) -> None:
    beside = children.submit(wait, 0.5)
    with pytest.raises(ChildDied) as death:
        children.call(kill_itself, name, doing="dying")
    assert (death.value.how, death.value.doing) == (name, "dying")
    assert death.value.fault == (name != "SIGKILL")
    assert beside.result() in [beside.result(), *children.pids()]
    assert {children.call(wait, 0.0), children.call(wait, 0.0)} <= set(children.pids())


def test_says_where_it_stood(children: Children) -> None:
    with pytest.raises(ChildDied) as death:
        children.call(kill_itself, "SIGSEGV")
    assert death.value.place.startswith("test_children.py:")
    assert death.value.place.endswith("in kill_itself")
    assert "SIGSEGV, a wrong memory access, in test_children.py" in str(death.value)


def test_what_hangs_is_ended_and_says_where(children: Children) -> None:
    begun = time.monotonic()
    children.call(wait, 0.0)
    with pytest.raises(ChildDied, match=r"no answer within 3 s, in test_children.py:\d+ in hang"):
        children.call(hang, limit_s=3.0)
    assert time.monotonic() - begun < 60
    assert children.call(wait, 0.0)


def test_a_child_takes_no_more_memory_than_its_limit(children: Children) -> None:
    """Up to the limit it may; beyond, it ends, and the next one has all of it again."""
    assert children.call(eat, HELD // 4) >= HELD // 8
    with pytest.raises(ChildDied, match=r"out of memory, in test_children.py:\d+ in eat|numeric.py:\d+ in ones"):
        children.call(eat, 4 * HELD)
    assert children.call(eat, HELD // 4) >= HELD // 8


def test_a_kill_from_outside_meets_idle_children_too(children: Children) -> None:
    """And what is asked for next is not charged with it."""
    children.each(wait, [0.5, 0.5])  # so that both have begun
    before = set(children.pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    answers: list[Any] = children.each(wait, [0.0] * 6)
    assert set(answers) == set(answers) & set(children.pids())
    assert before.isdisjoint(answers)


def test_what_is_raised_arrives_with_its_parts(children: Children) -> None:
    with pytest.raises(BudgetError) as refusal:
        children.call(refuse, "--budget-mem")
    assert (refusal.value.where, refusal.value.remedy) == ("--budget-mem", "Make it smaller.")
    with pytest.raises(RuntimeError, match="Odd: of this place"):
        children.call(refuse_oddly)
    with pytest.raises(AttributeError):
        children.call(lambda: 1)
    assert children.call(os.getpid) in children.pids()


def test_what_is_said_is_heard_and_what_is_printed_is_no_answer(children: Children) -> None:
    heard: list[str] = []
    assert children.call(tell, 3, hear=heard.append) == "told"
    assert heard == ["line 0", "line 1", "line 2"]


def test_children_leave_interruptions_to_their_parent_and_go_first_when_memory_ends(children: Children) -> None:
    assert children.call(ignored) == [True, True]
    own, parent = children.call(scores)
    assert own >= parent + 100


def test_nothing_of_them_is_left_in_the_folder_for_temporary_files(children: Children) -> None:
    children.each(wait, [0.2, 0.2])  # so that both have begun
    assert not [path for path in Path(tempfile.gettempdir()).glob("medsearch-*.stack") if _mine(path, children)]


def _mine(path: Path, children: Children) -> bool:
    """Whether a file belongs to these children; others may be running tests of theirs beside."""
    return any(path == child._name for child in children._living.values())


def test_what_cannot_begin_says_why() -> None:
    with Children(1, start=refuse, given=("start",)) as broken:
        for _ in range(2):
            with pytest.raises(BudgetError, match="start: does not fit"):
                broken.call(os.getpid)


def test_closing_ends_what_is_being_done_and_what_waits() -> None:
    children = Children(1)
    running, waiting = children.submit(hang), children.submit(hang)
    while not running.running():
        time.sleep(0.01)
    pids = children.pids()
    children.close()
    assert isinstance(running.exception(), ChildDied)
    assert waiting.cancelled()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(RuntimeError, match="were closed"):
        children.submit(hang)


@pytest.mark.parametrize("stop", [False, True], ids=["that waits", "that is stopped"])
def test_a_killed_parent_leaves_no_process_behind(stop: bool) -> None:
    code = "import os, time; from medsearch.core.children import Children; "
    code += "print(Children(1).call(os.getpid), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        if stop:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
    for _ in range(100):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} is still there")


def test_forgotten_children_do_not_keep_a_program_from_ending() -> None:
    code = "import os; from medsearch.core.children import Children; c = Children(2); print(c.call(os.getpid))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, check=True).stdout


@pytest.mark.parametrize("problem", [UsageError("a", "b.", "c"), ChildDied("export", "SIGFPE", "x.py:1 in f")])
def test_our_errors_can_be_sent(problem: MedsearchError) -> None:
    again = pickle.loads(pickle.dumps(problem))
    assert (type(again), str(again), vars(again)) == (type(problem), str(problem), vars(problem))


def test_here_is_this_process() -> None:
    assert HERE.call(os.getpid) == os.getpid()
    assert HERE.each(wait, [0.0, 0.0]) == [os.getpid()] * 2
    assert 2**30 < (available_memory() or 0) < 2**50
