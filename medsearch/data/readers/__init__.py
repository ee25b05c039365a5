"""Readers of data sets, one a file: each says which sources it takes, and reads them.

Those of other packages are asked before these, and within each of the two the first by name is the one that reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

from medsearch.core.registry import Registry
from medsearch.data.dataset import Dataset

READERS = Registry("reader", "medsearch.data.readers")


class Reader(Protocol):
    """Reads data sets of one kind; made without arguments.

    ``TAKES`` says which sources those are, for a message: ``"an .npz file"``.
    """

    TAKES: str

    def claims(self, source: str) -> bool:
        """Whether this reader is the one for ``source``, judged by its name and whether it is there; opens nothing."""
        ...

    def read(self, source: str, *, task: str | None = None) -> Dataset:
        """The data set, whose own ``source`` reads it again; ``task`` where the source leaves it open.

        Raises:
            DataError: for what cannot be read, saying where and what to do.
        """
        ...


def readers() -> Iterator[Reader]:
    """All of them, in the order in which they are asked."""
    for name in sorted(READERS, key=lambda name: (READERS[name].__module__.startswith(f"{__name__}."), name)):
        yield cast(Reader, READERS[name]())
