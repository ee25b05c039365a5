"""The contract of a reader (``medsearch.data.readers``)."""

from __future__ import annotations

from typing import cast

from medsearch.core.errors import DataError
from medsearch.data import READERS, Dataset, Reader, load
from medsearch.testing.contract import registered, wants

NOBODYS = "no-reader-takes-this"


def check_reader(reader: str | type, source: str, *, task: str | None = None) -> None:
    """Everything that is wanted of a reader, by a ``source`` that it takes; ``task`` where that leaves it open."""
    name, kind = registered(READERS, reader)
    made = cast(Reader, kind())
    wants(getattr(made, "TAKES", ""), f"reader {name}: TAKES says what it reads, for messages: 'an .npz file'.")
    wants(made.claims(source) is True, f"reader {name}: claims({source!r}) is not True.")
    wants(made.claims(NOBODYS) is False, f"reader {name}: claims {NOBODYS!r}; it takes only what it can read.")
    try:
        data = made.read(source, task=task)
    except DataError as refusal:
        raise AssertionError(f"reader {name}: refuses what it claims: {refusal}") from refusal
    wants(isinstance(data, Dataset), f"reader {name}: reads a medsearch.data.Dataset, got {type(data).__name__}.")
    again = load(data.source, task=data.task)
    same = again.fingerprint() == data.fingerprint()
    wants(same, f"reader {name}: load({data.source!r}), the source that the data set names, gives another data set.")
