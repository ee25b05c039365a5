"""From what a user writes after ``--data`` to a checked data set."""

from __future__ import annotations

from pathlib import Path

from medsearch.core.errors import DataError, suggest
from medsearch.data import embedded, folder, npz
from medsearch.data.dataset import Dataset, check_task

_PREFIX = "embedded:"


def load(source: str | None = None, *, task: str | None = None) -> Dataset:
    """The data set at ``source``.

    Args:
        source: an ``.npz`` file (see ``npz``), a folder of classes (see ``folder``) or the name of an embedded sample,
            with or without ``embedded:`` before it; None is the embedded ``brain2d``.
        task: needed only where the source leaves it open.
    """
    if task is not None:
        check_task(task, where="task")
    if source is None or is_embedded(source):
        return embedded.read((source or embedded.DEFAULT).removeprefix(_PREFIX), task=task)
    path = Path(source)
    if path.is_dir():
        return folder.read(path, task=task)
    if path.suffix == ".npz":
        return npz.read(path, task=task)
    if path.exists():
        raise DataError(source, "is neither an .npz file nor a folder of classes.", "Convert it to one of the two.")
    raise DataError(source, "no such file, folder or embedded set.", suggest(source, embedded.known()))


def is_embedded(source: str) -> bool:
    """Whether ``source`` names an embedded sample, not a file or folder."""
    return source.startswith(_PREFIX) or source in embedded.known()
