"""Plain results on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from medsearch.cli.parser import Answer


def show(renderable: Any) -> None:
    """Print what rich can render."""
    from rich.console import Console

    Console().print(renderable)


def rows(found: Sequence[Mapping[str, Any]], *, code: int = 0) -> Answer:
    """The answer of a verb that finds a table."""
    return Answer(data=found, show=partial(_table, found), code=code)


def _table(found: Sequence[Mapping[str, Any]]) -> None:
    from medsearch.report.rows import table

    show(table(found))


def after(*steps: Callable[[], object]) -> Callable[[], None]:
    """Steps one after the other, as one."""

    def all_of_them() -> None:
        for step in steps:
            step()

    return all_of_them
