"""One command, from its arguments to its exit code.

Exit codes: 0 done, 2 wrong input (one message, no traceback), 3 refused (a result did not pass its own checks),
130 interrupted, by Ctrl-C or SIGTERM, 141 the reader of standard output has left.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress

from medsearch.cli.parser import parse
from medsearch.core.errors import MedsearchError, RefusedError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code.  SIGTERM ends it as Ctrl-C does."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    with _interrupted_by(signal.SIGTERM):
        return _run(arguments)


def _open_standard_streams() -> None:
    """Put the null device where input, output or errors were closed, so that no file or pipe takes their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


@contextmanager
def _interrupted_by(number: signal.Signals) -> Iterator[None]:
    """A signal that is not ignored raises KeyboardInterrupt while the block runs; not in a thread, which gets none."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before or signal.SIG_DFL)


def _run(arguments: list[str]) -> int:
    start = time.monotonic()
    try:
        verb, options = parse(arguments)
        options.start = start
        options.command = shlex.join(["medsearch", *arguments])
        with _output_to_errors() if options.json else nullcontext():
            answer = verb.run(options)
        if options.json:
            print(json.dumps(answer.data))
        else:
            answer.show()
        return answer.code
    except MedsearchError as problem:
        print(f"medsearch: {problem}", file=sys.stderr)
        return 3 if isinstance(problem, RefusedError) else 2
    except KeyboardInterrupt as stop:
        print(
            "\n  ".join(["medsearch: interrupted; what was finished is kept.", *map(str, stop.args)]), file=sys.stderr
        )
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as problem:  # no room, no permission
        print(f"medsearch: {problem.filename or 'a file'}: {problem.strerror or problem}.", file=sys.stderr)
        return 2


@contextmanager
def _output_to_errors() -> Iterator[None]:
    """Progress, and whatever libraries and child processes print, goes to standard error until the block ends."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
