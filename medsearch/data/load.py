"""From what a user writes after ``--data`` to a checked data set."""

from __future__ import annotations

from pathlib import Path

from medsearch.core.errors import DataError, suggest
from medsearch.data.dataset import Dataset, check_task
from medsearch.data.readers import embedded, readers


def load(source: str | None = None, *, task: str | None = None) -> Dataset:
    """The data set at ``source``, by the first reader that claims it.

    Args:
        source: what a reader takes: an ``.npz`` file (see ``npz``), a folder of classes (see ``folder``), the name of
            an embedded sample, with or without ``embedded:`` before it, or whatever a plugin reads; None is the
            embedded ``brain2d``.
        task: needed only where the source leaves it open.
    """
    if task is not None:
        check_task(task, where="task")
    source = source or embedded.DEFAULT
    for reader in readers():
        if reader.claims(source):
            return reader.read(source, task=task)
    taken = f"Read are {', '.join(reader.TAKES for reader in readers())}."
    if Path(source).exists():
        raise DataError(source, "is nothing that a reader takes.", f"{taken}  Convert it, or name a --plugin for it.")
    near = suggest(source, embedded.known())
    raise DataError(source, "no such file, folder or embedded set, nor what a plugin reads.", f"{near}  {taken}")


def is_embedded(source: str) -> bool:
    """Whether ``source`` names an embedded sample, not a file or folder."""
    return embedded.claims(source)
