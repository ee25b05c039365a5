"""Child processes that are allowed to die: each does one thing at a time, and its death is an answer like any other.

A native library may end the process it runs in, hang, or take all the memory there is.  Here that ends one child: who
asked gets a :class:`ChildDied` that says how, and another child takes its place.  Every child has a pipe of its own, so
that none is left waiting for what a dead one held.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import queue
import re
import resource
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol, TextIO

from medsearch.core import plugins
from medsearch.core.errors import MedsearchError

LIMIT_SECONDS = 600.0
"""How long a child may take for one thing where nothing else is said."""
START_SECONDS = 300.0
"""How long it may take to begin: imports, and reading what it is given."""
GRACE_SECONDS = 3.0
"""How long an idle one may take to end by itself."""
STACK_SECONDS = 3.0
"""How long a hanging child has to write down where it stands before it is killed."""
FIRST_TO_DIE = 800
"""Added to a child's score when Linux runs out of memory, of 1000: it goes before the process that made it."""

_PR_SET_PDEATHSIG = 1
"""Of ``prctl``: the signal that a process gets when its parent ends."""
_REFUSED_MEMORY = 77
"""Exit code of a child that was refused memory: what it holds then is not worth keeping."""
OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
"""What torch says in place of a MemoryError."""
_CURRENT = re.compile(r'^Current thread.*\n  File "(.+)", line (\d+) in (.+)$', re.M)
"""The innermost frame of the failing thread in what ``faulthandler`` writes."""

_Job = tuple[Future[Any], Callable[..., Any], tuple[Any, ...], float, str, Callable[[str], None]]


class ChildDied(MedsearchError):
    """A child process ended, or was ended, before it had an answer.

    Args:
        doing: what it was asked to do.
        how: ``"SIGSEGV"``, ``"exit code 1"``, ``"no answer within 60 s"``.
        place: where it stood, as ``file:line in function``; empty where that is not known.
    """

    def __init__(self, doing: str, how: str, place: str = "") -> None:
        self.doing, self.how, self.place = doing, how, place
        at = f", in {place}" if place else ""
        super().__init__(doing, f"the process that did it ended: {_in_words(how)}{at}.")

    @property
    def fault(self) -> bool:
        """Whether a library failed there, as it would again: neither a kill from outside nor a lack of time."""
        return self.how in _FAULTS


def as_death(problem: Exception, doing: str) -> ChildDied:
    """What a process died of, or what it raised where it should have had an answer."""
    return problem if isinstance(problem, ChildDied) else ChildDied(doing, f"{type(problem).__name__}: {problem}")


_FAULTS = {"SIGSEGV": "a wrong memory access", "SIGFPE": "a division by zero", "SIGABRT": "a library gave up"}
_FAULTS |= {"SIGILL": "an instruction that this processor has not", "SIGBUS": "memory that is not there"}


def _in_words(how: str) -> str:
    if how in _FAULTS:
        return f"{how}, {_FAULTS[how]}"
    return f"{how}, it was killed or the machine ran out of memory" if how == "SIGKILL" else how


class Helper(Protocol):
    """Does things elsewhere, or here: what code that may die is handed to."""

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        doing: str = "",
        limit_s: float | None = None,
        hear: Callable[[str], None] = ...,
    ) -> Any:
        """The result of ``function(*args)``.

        Args:
            function: of a module; it and its arguments can be pickled.
            args: for it.
            doing: what that is, for messages.
            limit_s: seconds it may take.
            hear: told what the function says by :func:`say`.

        Raises:
            ChildDied: if the process that did it ended.
        """
        ...

    def each(self, function: Callable[[Any], Any], items: Iterable[Any], *, doing: str = "") -> list[Any]:
        """The results of ``function``, one for each of ``items`` in order; what was raised where there is none."""
        ...


class Here:
    """Does it in this process: for measurements whose process is a child already, and for tests of what is measured."""

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        doing: str = "",
        limit_s: float | None = None,
        hear: Callable[[str], None] = lambda line: None,
    ) -> Any:
        return function(*args)

    def each(self, function: Callable[[Any], Any], items: Iterable[Any], *, doing: str = "") -> list[Any]:
        return [_result(function, item) for item in items]


HERE = Here()


class Children:
    """Processes that do what they are handed, one thing at a time each; a dead one is replaced.

    They leave Ctrl-C and SIGTERM to the process that made them, end with it, write to standard error what they print,
    and are the first that the system ends when memory runs out.

    Args:
        count: how many.
        start: called in each before anything else, with ``given``.
        given: arguments of ``start``.
        limit_s: seconds that one thing may take.
        memory: bytes that one may take for itself (``RLIMIT_DATA``); None sets no limit of its own.
    """

    def __init__(
        self,
        count: int,
        *,
        start: Callable[..., object] | None = None,
        given: Sequence[Any] = (),
        limit_s: float = LIMIT_SECONDS,
        memory: int | None = None,
    ) -> None:
        self.count, self.limit_s = count, limit_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._given = (start, tuple(given), plugins.in_use(), memory)
        self._closed = threading.Event()
        self._living: dict[int, _Child] = {}
        self._refused: Exception | None = None
        self._threads = [threading.Thread(target=self._serve, args=(i,), daemon=True) for i in range(count)]
        atexit.register(self.close)
        for thread in self._threads:
            thread.start()

    def submit(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        doing: str = "",
        limit_s: float | None = None,
        hear: Callable[[str], None] = lambda line: None,
    ) -> Future[Any]:
        """Hand over ``function(*args)``; see :meth:`Helper.call`.

        A function may say itself what it does and how long it may take, by attributes ``doing`` and ``limit_s``.
        """
        if self._closed.is_set():
            raise RuntimeError("these processes were closed")
        seconds = limit_s or getattr(function, "limit_s", None) or self.limit_s
        what = doing or getattr(function, "doing", "") or getattr(function, "__name__", type(function).__name__)
        future: Future[Any] = Future()
        self._jobs.put((future, function, args, seconds, what, hear))
        return future

    def call(
        self,
        function: Callable[..., Any],
        *args: Any,
        doing: str = "",
        limit_s: float | None = None,
        hear: Callable[[str], None] = lambda line: None,
    ) -> Any:
        return self.submit(function, *args, doing=doing, limit_s=limit_s, hear=hear).result()

    def each(self, function: Callable[[Any], Any], items: Iterable[Any], *, doing: str = "") -> list[Any]:
        futures = [self.submit(function, item, doing=doing) for item in items]
        return [_result(future.result) for future in futures]

    def pids(self) -> list[int]:
        """The processes that live now."""
        return [child.process.pid for child in list(self._living.values()) if child.process.pid]

    def close(self) -> None:
        """End all of them, whatever they do; what was not begun is cancelled."""
        self._closed.set()
        with suppress(queue.Empty):
            while job := self._jobs.get_nowait():
                job[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        for child in list(self._living.values()):
            if child.busy:
                child.process.kill()
        for thread in self._threads:
            thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, place: int) -> None:
        """Keep one child alive and hand it one thing after another."""
        self._begin(place)
        while not self._closed.is_set() and (job := self._jobs.get()):
            future, function, args, seconds, doing, hear = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                child = self._ready(place, doing)
                result = child.ask((function, args), seconds=seconds, doing=doing, hear=hear)
            except Exception as problem:
                self._after(place, problem)
                future.set_exception(problem)
            else:
                future.set_result(result)
        self._end(place, grace=GRACE_SECONDS)

    def _ready(self, place: int, doing: str) -> _Child:
        """A child that lives: one that was killed while it had nothing to do is replaced without a word."""
        child = self._living.get(place)
        if child is not None and child.ready and not child.process.is_alive():
            self._end(place)
            child = None
        child = child or self._begin(place)
        if child is None:
            raise ChildDied(doing, f"no process can be begun for it: {self._refused}")
        return child

    def _begin(self, place: int) -> _Child | None:
        """A new child; None where there is none to be had, which may pass."""
        try:
            child = self._living[place] = _Child(self._given)
        except Exception as problem:
            self._refused = problem
            return None
        if self._closed.is_set():
            child.process.kill()
        return child

    def _after(self, place: int, problem: Exception) -> None:
        """Replace a child that is gone, or that never got ready; one that raised something goes on."""
        died = isinstance(problem, ChildDied)
        if died or not (place in self._living and self._living[place].ready):
            self._end(place)
            if not self._closed.is_set():
                self._begin(place)

    def _end(self, place: int, *, grace: float = 0.0) -> None:
        if place in self._living:
            self._living.pop(place).end(grace=grace)


def _result(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as problem:
        return problem


@dataclass
class _Child:
    """One process, as the one that made it sees it."""

    given: tuple[Any, ...]
    process: Any = field(init=False)
    pipe: connection.Connection = field(init=False)
    stack: TextIO = field(init=False)
    ready: bool = field(init=False, default=False)
    busy: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="medsearch-", suffix=".stack")
        self.stack, self._name = os.fdopen(handle, errors="replace"), Path(name)
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, name, *self.given), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, job: Any, *, seconds: float, doing: str, hear: Callable[[str], None]) -> Any:
        """The result of one thing; what it raised, or how the process died."""
        self.busy = True
        try:
            if not self.ready:
                self._answer(START_SECONDS, doing, hear)
                self._name.unlink(missing_ok=True)  # it has opened it, and so have we
                self.ready = True
            self.pipe.send(job)
            return self._answer(seconds, doing, hear)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death(doing) from None
        finally:
            self.busy = False

    def _answer(self, seconds: float, doing: str, hear: Callable[[str], None]) -> Any:
        end = time.monotonic() + seconds
        while self.pipe.poll(max(0.0, end - time.monotonic())):
            try:
                kind, value = self.pipe.recv()
            except (EOFError, ConnectionResetError):
                raise self._death(doing) from None
            if kind == "said":
                hear(value)
            elif kind == "raised":
                raise value
            else:
                return value
        os.kill(self.process.pid, signal.SIGABRT)  # it writes down where it stands
        self.process.join(STACK_SECONDS)
        raise ChildDied(doing, f"no answer within {seconds:.3g} s", self._place())

    def _death(self, doing: str) -> ChildDied:
        self.process.join(STACK_SECONDS)
        if not self.ready:
            doing += ", before it began: the imports of a child process"
        code = self.process.exitcode
        if code is None:  # it closed its pipe and goes on
            return ChildDied(doing, "it answers no more")
        if code == _REFUSED_MEMORY:
            return ChildDied(doing, "out of memory", self._place())
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ChildDied(doing, how, self._place())

    def _place(self) -> str:
        """The innermost line of Python that it was in, by the record it left."""
        self.stack.seek(0)
        found = _CURRENT.search(self.stack.read())
        return f"{Path(found[1]).name}:{found[2]} in {found[3]}" if found else ""

    def end(self, *, grace: float = 0.0) -> None:
        """End it, after ``grace`` seconds in which it may clear up what it holds, and clear away after it."""
        self.pipe.close()
        self.process.join(grace)
        self.process.kill()
        self.process.join()
        self.stack.close()
        self._name.unlink(missing_ok=True)


_out: connection.Connection | None = None


def say(line: str) -> None:
    """Tell the process that asked what is being done; nobody hears it in a process that is not a child."""
    if _out is not None:
        _out.send(("said", line))


def _work(
    pipe: connection.Connection,
    stack: str,
    start: Callable[..., object] | None,
    given: tuple[Any, ...],
    modules: tuple[str, ...],
    memory: int | None,
) -> None:
    """What a child does: answer until nobody asks any more."""
    global _out
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(2, 1)  # what a library or a plugin prints is no result
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(FIRST_TO_DIE))
    if memory is not None:
        _, allowed = resource.getrlimit(resource.RLIMIT_DATA)
        most = memory if allowed == resource.RLIM_INFINITY else min(memory, allowed)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with open(stack, "w") as record:
        faulthandler.enable(record)
        _out = pipe
        if not _answer(pipe, record, lambda: _begun(modules, start, given)):
            return
        while True:
            try:
                function, args = pipe.recv()
            except (EOFError, OSError):  # nobody asks any more
                return
            except Exception as problem:  # what was sent cannot be read here, for example a part of an unknown module
                _send(pipe, "raised", problem)
                continue
            _answer(pipe, record, lambda function=function, args=args: function(*args))  # type: ignore[misc]


def _begun(modules: tuple[str, ...], start: Callable[..., object] | None, given: tuple[Any, ...]) -> None:
    plugins.use(modules)
    if start:
        start(*given)


def _answer(pipe: connection.Connection, record: TextIO, work: Callable[[], Any]) -> bool:
    """Send what ``work`` returns or raises; says whether it went well.  Where memory is refused, the process ends."""
    try:
        result = work()
    except Exception as problem:
        if _refused_memory(problem):
            frame = traceback.extract_tb(problem.__traceback__)[-1]
            record.write(f'Current thread\n  File "{frame.filename}", line {frame.lineno} in {frame.name}\n')
            record.flush()
            os._exit(_REFUSED_MEMORY)
        problem.add_note(_where(problem))
        _send(pipe, "raised", problem)
        return False
    _send(pipe, "done", result)
    return True


def _refused_memory(problem: BaseException | None) -> bool:
    """Whether a lack of memory is behind it, whatever was made of that on the way."""
    while problem is not None:
        if isinstance(problem, MemoryError) or OUT_OF_MEMORY in str(problem):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def _send(pipe: connection.Connection, kind: str, value: Any) -> None:
    """Send an answer; what cannot be read back on the other side goes as text."""
    try:
        data = pickle.dumps((kind, value))
        if kind == "raised":
            pickle.loads(data)
    except Exception as problem:
        told = value if kind == "raised" else problem
        data = pickle.dumps(("raised", RuntimeError(f"{type(told).__name__}: {told}")))
    with suppress(OSError):  # nobody asks any more
        pipe.send_bytes(data)


def _where(problem: BaseException) -> str:
    frames = traceback.extract_tb(problem.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def _die_with_parent() -> None:
    """Have Linux kill this process when the thread that made it ends, even if it is stopped or never hears of it."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_parent() -> None:
    """Wait until the process that made this one is gone, and go too: a killed search leaves no child behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def available_memory() -> int | None:
    """Bytes that this process and its children may have together: the machine's, or the limit of its control group."""
    limits = []
    with suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    return min(limits, default=None)
