"""What a search tells those who watch it: methods that do nothing, of which a subclass writes those it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

Row = Mapping[str, Any]
"""A trial, as it stands in the results."""


class Callback:
    """Watches a search; what a method raises ends the search, which can be resumed."""

    def begin(self, title: str, *, seconds: float | None, spent: float, resume: str) -> None:
        """A search begins.

        Args:
            title: what is searched.
            seconds: the time it may take; None if the number of trials limits it.
            spent: seconds that earlier starts of it have taken, and which count.
            resume: the command that continues it.
        """

    def earlier(self, trials: Sequence[Row], *, front: Sequence[Row]) -> None:
        """What earlier starts of it have found."""

    def phase(self, name: str) -> None:
        """A new part of the work begins, such as ``searching``."""

    def progress(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` things, such as blocks; a total of 0 is one not known."""

    def trial(self, row: Row) -> None:
        """A trial ended, well or not."""

    def front(self, rows: Sequence[Row]) -> None:
        """The Pareto front so far, whenever a trial has ended."""

    def note(self, message: str) -> None:
        """Something worth reading later as well."""

    def end(self) -> None:
        """The search ended, well or not."""


class Callbacks(Callback):
    """Several callbacks as one; a context in which they watch one search.

    Args:
        each: told everything, in this order.
    """

    def __init__(self, each: Sequence[Callback]) -> None:
        self.each = tuple(each)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for one in reversed(self.each):
                stack.callback(one.end)

    def begin(self, title: str, *, seconds: float | None, spent: float, resume: str) -> None:
        for one in self.each:
            one.begin(title, seconds=seconds, spent=spent, resume=resume)

    def earlier(self, trials: Sequence[Row], *, front: Sequence[Row]) -> None:
        for one in self.each:
            one.earlier(trials, front=front)

    def phase(self, name: str) -> None:
        for one in self.each:
            one.phase(name)

    def progress(self, done: int, total: int, what: str) -> None:
        for one in self.each:
            one.progress(done, total, what)

    def trial(self, row: Row) -> None:
        for one in self.each:
            one.trial(row)

    def front(self, rows: Sequence[Row]) -> None:
        for one in self.each:
            one.front(rows)

    def note(self, message: str) -> None:
        for one in self.each:
            one.note(message)
