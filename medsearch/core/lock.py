"""One process at a time in a folder: a lock that the system takes back when its holder ends, however it ends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from medsearch.core.errors import RunError, WriteError
from medsearch.core.files import read_json, unwritable, write_json

LOCK, HOLDER = ".lock", ".holder.json"
"""What is locked, which stays empty, and who has locked it: what a killed process wrote there means nothing."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep every other process out of ``folder``, which is made if needed, while the block runs.

    The lock is this process's own: children do not inherit it, and it is gone as soon as the process is.

    Raises:
        RunError: if another process holds it, with its number, host and begin.
        WriteError: if nothing can be written or locked there.
    """
    lock, new = FileLock(folder / LOCK, timeout=0), not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise _held(folder) from None
    except OSError as problem:
        raise unwritable(folder / LOCK, problem) from problem
    try:
        _say_who(folder, new=new)
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _say_who(folder: Path, *, new: bool) -> None:
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    try:
        write_json(folder / HOLDER, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})
    except WriteError:
        if new:
            release_for_good(folder)
            with suppress(OSError):
                folder.rmdir()
        raise


def release_for_good(folder: Path) -> None:
    """Remove the lock that this process holds, because ``folder`` is about to go."""
    for name in (HOLDER, LOCK):
        (folder / name).unlink(missing_ok=True)


def _held(folder: Path) -> RunError:
    try:
        holder: dict[str, Any] = read_json(folder / HOLDER)
        pid, host, since = (holder[key] for key in ("pid", "host", "since"))
    except (RunError, KeyError, TypeError):  # it has only just begun
        return RunError(str(folder), "another process is working on this run.", "Wait until it ends.")
    there = "" if host == socket.gethostname() else f" on {host}"
    remedy = f"Wait until it ends, or stop it{there}: kill {pid} - what it has finished is kept."
    return RunError(str(folder), f"process {pid} on {host} has been working on this run since {since}.", remedy)
