#!/usr/bin/env bash
# pebble 5.2.3: a pool survives workers that die at work, and ends when one that is idle is killed.
#
# Guess: a pool that turns the death of a worker at work into the failure of one task, and puts another worker in its
#   place, does the same for a worker that dies between two tasks - as when the kernel, short of memory, picks one.
# Seen (Linux, Python 3.11, spawn): SIGSEGV in a task gives ProcessExpired for that task alone, and the next task runs; after
#   SIGKILL of one of two idle workers no task is taken any more: BrokenProcessPool ("All workers expired") for one
#   that is asked for in that moment, RuntimeError ("Unexpected error within the Pool") for every later one.
# Who meets it: whoever runs trainings, exports or timings that may crash natively in such a pool, for hours.
# Exits with 1 if the pool behaves otherwise than stated.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check pebble==5.2.3
cat > "$folder/pool.py" <<'PYTHON'
import os
import signal
import sys
import time
from multiprocessing import active_children, get_context

from pebble import ProcessPool


def work(seconds):
    time.sleep(seconds)
    return os.getpid()


def crash():
    os.kill(os.getpid(), signal.SIGSEGV)


def outcome(pool, *call):
    try:
        pool.schedule(call[0], args=call[1:]).result(timeout=90)
    except BaseException as problem:
        return type(problem).__name__
    return "done"


def main():
    with ProcessPool(2, context=get_context("spawn")) as pool:
        first = outcome(pool, work, 0.1)
        at_work, after = outcome(pool, crash), outcome(pool, work, 0.1)
        time.sleep(2)  # two workers wait again
        os.kill(active_children()[0].pid, signal.SIGKILL)
        time.sleep(1)
        idle, later = outcome(pool, work, 0.1), outcome(pool, work, 0.1)
        pool.stop()
    print(f"death at work: {at_work}, then {after}; death of an idle worker: {idle}, then {later}")
    as_stated = (first, at_work, after) == ("done", "ProcessExpired", "done") and "done" not in (idle, later)
    print("as stated" if as_stated else "CHANGED")
    sys.exit(0 if as_stated else 1)


if __name__ == "__main__":
    main()
PYTHON
"$folder/venv/bin/python" "$folder/pool.py"
