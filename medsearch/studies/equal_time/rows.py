"""The file of rows: one JSON object a line, appended as each is measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medsearch.core.errors import RunError
from medsearch.core.files import read_text, unwritable
from medsearch.studies.equal_time.plan import Case

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if there is no file; a last line that a kill left half written is passed over.

    Raises:
        RunError: for any other line that is no row.
    """
    if not path.exists():
        return []
    *lines, last = read_text(path).split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            Case.of(row)
        except (ValueError, TypeError, KeyError) as problem:
            raise RunError(f"{path} (line {number})", "is no row of this benchmark.", "Remove the line.") from problem
        rows.append(row)
    return rows


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a row, in place of a last line that was left half written; on disk when this returns.

    Raises:
        WriteError: where it cannot be written; the file then ends with the row before.
    """
    data = (json.dumps(row, sort_keys=False, allow_nan=False, separators=(",", ":")) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if path.exists() else b""
        end = before.rfind(b"\n") + 1
        with path.open("r+b" if path.exists() else "xb", buffering=0) as file:
            file.truncate(end)
            file.seek(end)
            try:
                left = data
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise
    except OSError as problem:
        raise unwritable(path, problem) from problem
