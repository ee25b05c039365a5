"""A search as it runs, in a notebook: one display that is replaced as the search goes on."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from medsearch.core.callback import Callback, Row
from medsearch.report.frame import clock_text

_SECONDS = 0.5
"""Between two drawings of progress."""


def _display(text: str, *, name: str, update: bool) -> None:
    from IPython.display import HTML, display

    display(HTML(text), display_id=name, update=update)


class NotebookView(Callback):
    """Shows phase, progress, the trials on the front and the last note; nothing is drawn outside of IPython.

    Args:
        display: shows HTML under a name, or replaces what is shown there; that of IPython if not given.
        clock: seconds that only grow.
    """

    def __init__(self, *, display: Callable[..., Any] = _display, clock: Callable[[], float] = time.monotonic) -> None:
        self._display, self._clock = display, clock
        self._name = f"medsearch-{uuid4().hex}"
        self._title = self._phase = self._progress = self._note = ""
        self._count, self._front = 0, ""
        self._begun = self._drawn = clock()
        self._spent = 0.0

    def begin(self, title: str, *, seconds: float | None, spent: float, resume: str) -> None:
        """Open the display."""
        self._title, self._spent, self._begun = title, spent, self._clock()
        self._draw(update=False)

    def earlier(self, trials: Sequence[Row], *, front: Sequence[Row]) -> None:
        """Count the trials that there are."""
        self._count = len(trials)
        self.front(front)

    def phase(self, name: str) -> None:
        """Its name."""
        self._phase, self._progress = name, ""
        self._draw()

    def progress(self, done: int, total: int, what: str) -> None:
        """How far the phase is."""
        self._progress = f"{done} of {total} {what}" if total else f"{done} {what}"
        if done == total or self._clock() - self._drawn >= _SECONDS:
            self._draw()

    def trial(self, row: Row) -> None:
        """One more."""
        self._count += 1
        self._draw()

    def front(self, rows: Sequence[Row]) -> None:
        """A table of the Pareto front."""
        cells = ((row["id"], " / ".join(row["mixers"]), row["error"]) for row in rows)
        self._front = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in cells)
        self._draw()

    def note(self, message: str) -> None:
        """The last one is shown."""
        self._note = message
        self._draw()

    def end(self) -> None:
        """Say how long it took."""
        self._phase, self._progress = "finished", ""
        self._draw()

    def _draw(self, *, update: bool = True) -> None:
        self._drawn = self._clock()
        elapsed = clock_text(self._spent + self._drawn - self._begun)
        phase = f"{self._phase} {self._progress}".strip()
        trials = f"{self._count} trial{'' if self._count == 1 else 's'}"
        lines = [self._title, phase, f"{trials}, {elapsed}", self._note]
        table = (
            f"<table><tr><th>front</th><th>mixers</th><th>error</th></tr>{self._front}</table>" if self._front else ""
        )
        text = "<br>".join(_text(line) for line in lines if line) + table
        self._display(text, name=self._name, update=update)


def _text(value: object) -> str:
    return html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))
