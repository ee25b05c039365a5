"""Files that are never half written: a reader, or a killed run, sees the old content or the new, nothing between."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from medsearch.core.errors import MedsearchError, RunError, WriteError

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}\..+")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put ``data`` into ``path`` in one step; the folder is made if needed, and ``path`` stays as it was on failure.

    Raises:
        WriteError: where there is no room, no permission, or no such place.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as problem:
        raise unwritable(path, problem) from problem
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritable(path: str | Path, problem: OSError) -> WriteError:
    """What to say of a file that cannot be written."""
    remedy = "Free some space there." if problem.errno in _NO_ROOM else "Make it writable, or choose another place."
    reason = problem.strerror or problem
    if isinstance(problem, FileExistsError):  # of mkdir, which means the folder
        reason = f"{problem.filename} is not a folder"
    return WriteError(str(path), f"cannot be written: {reason}.", remedy)


def remove_temporaries(folder: Path) -> None:
    """Remove what writers that were killed left half written below ``folder``; nobody may be writing there."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Put ``text`` into ``path`` in one step, as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Put ``value`` into ``path`` in one step: keys sorted, indented, one final newline; NaN is a ValueError."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_text(path: str | Path, *, error: type[MedsearchError] = RunError) -> str:
    """The text in ``path``; a missing, unreadable or damaged file raises ``error``."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise error(str(path), f"cannot be read: {problem.strerror}.") from problem
    except UnicodeDecodeError as problem:
        raise error(str(path), f"is not UTF-8 text: {problem.reason} at byte {problem.start}.") from problem


def read_json(path: str | Path, *, error: type[MedsearchError] = RunError) -> Any:
    """The value in ``path``; a missing, unreadable or damaged file raises ``error`` and says where it is damaged."""
    try:
        return json.loads(read_text(path, error=error))
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}"
        raise error(str(path), f"is not valid JSON at {place}: {problem.msg}.") from problem


def read_rows(path: Path | None) -> list[dict[str, Any]]:
    """The rows of a CSV file that is appended to, as texts; none where it is not there yet."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(path: Path | None, fields: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a row to a CSV file, with a heading and its folder where it is new; nowhere if ``path`` is None.

    Raises:
        WriteError: where it cannot be written; the file then ends with the row before.
    """
    if path is None:
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fields)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if not end:
                writer.writeheader()
            writer.writerow(row)
            _append(file, text.getvalue().encode(), end)
    except OSError as problem:
        raise unwritable(path, problem) from problem


def _append(file: io.FileIO, data: bytes, end: int) -> None:
    """Write all of ``data``, or take back what was written of it."""
    try:
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(end)
        raise
