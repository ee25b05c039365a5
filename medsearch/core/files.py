"""Files that are never half written: a reader, or a killed run, sees the old content or the new, nothing between."""

from __future__ import annotations

import csv
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medsearch.core.errors import MedsearchError, RunError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, in the same folder and with the same ending; it becomes ``path`` when the block ends.

    For writers that take a file name, such as ``torch.save``.  The folder is made if needed; if the block raises,
    ``path`` stays as it was and the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put ``data`` into ``path`` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Put ``text`` into ``path`` in one step, as UTF-8 with the line ends it has."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Put ``value`` into ``path`` in one step: keys sorted, indented, one final newline; NaN is a ValueError."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: str | Path, *, error: type[MedsearchError] = RunError) -> Any:
    """The value in ``path``; a missing, unreadable or damaged file raises ``error`` and says where it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(str(path), f"cannot be read: {problem.strerror}.") from problem
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}"
        raise error(str(path), f"is not valid JSON at {place}: {problem.msg}.") from problem
    except UnicodeDecodeError as problem:
        raise error(str(path), f"is not UTF-8 text: {problem.reason} at byte {problem.start}.") from problem


def read_rows(path: Path | None) -> list[dict[str, Any]]:
    """The rows of a CSV file that is appended to, as texts; none where it is not there yet."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_row(path: Path | None, fields: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a row to a CSV file, with a heading and its folder where it is new; nowhere if ``path`` is None."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if not begun:
            writer.writeheader()
        writer.writerow(row)
