"""A search as it runs: a calm live view in a terminal, one plain line per event anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from rich.console import Console, RenderableType
from rich.live import Live

from medsearch.core.callback import Callback
from medsearch.report.frame import (
    KEPT,
    Moment,
    best_line,
    by_first_cost,
    cells,
    clock_text,
    costs_of,
    frame,
    hint,
    progress_text,
)
from medsearch.report.networks import Data, number, title

_QUIET_SECONDS = 30.0
# An output that is gone: rich turns a pipe whose reader has left into SystemExit, which must not end a search.
_NOBODY_READS = (OSError, ValueError, SystemExit)


class LiveSearch(Callback):
    """Shows a search while it runs; a reader who stops looking loses nothing, because the run directory has it all.

    In a terminal the view is redrawn four times a second and cleared at the end.  Elsewhere (a pipe, CI, a log) every
    event is one line, and progress is said at most every half minute.  Output that nobody takes any more is dropped.

    Args:
        console: where to draw; standard output if None.
        clock: seconds that only grow.
    """

    def __init__(self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._moment = Moment(name="")
        self._console = console or Console()
        self._clock, self._start, self._spent = clock, clock(), 0.0
        self._said = 0.0
        self._first: tuple[str, int, float] | None = None
        self._live: Live | None = None

    def begin(self, title: str, *, seconds: float | None, spent: float, resume: str) -> None:
        """Draw the view, or say what begins where there is none."""
        self._moment = Moment(name=title, seconds=seconds, resume=resume)
        self._start, self._spent, self._said = self._clock(), spent, spent
        console = self._console
        if console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf"):
            self._live = Live(get_renderable=self._view, console=console, refresh_per_second=4, transient=True)
            with suppress(*_NOBODY_READS):
                self._live.start()
        else:
            self._print(f"{self._moment.name}. {hint(self._moment)}")

    def end(self) -> None:
        """Clear the view, and say what came of it."""
        if self._live:
            with suppress(*_NOBODY_READS):
                self._live.stop()
        self._live = None
        self._print(f"{best_line(self._moment)}; {clock_text(self._elapsed())} in all")

    def phase(self, name: str) -> None:
        """A new part of the work begins, for example ``measuring this machine``."""
        self._moment = replace(self._moment, phase=name, progress=None, left=None)
        self._first = None
        self._said = self._elapsed()
        self._event(name)

    def progress(self, done: int, total: int, what: str) -> None:
        """``done`` of ``total`` things, for example blocks; a total of 0 is one not known.

        How long the rest takes is judged by what was done since these things were first told of.
        """
        now = self._elapsed()
        if self._first is None or self._first[0] != what:
            self._first = (what, done, now)
        _, before, then = self._first
        left = (now - then) / (done - before) * (total - done) if done > before else None
        self._moment = replace(self._moment, progress=(done, total, what), left=left)
        if done == total or now - self._said >= _QUIET_SECONDS:
            self._said = now
            self._event(f"{self._moment.phase}: {progress_text((done, total, what), left)}")

    def trial(self, row: Data) -> None:
        """A trial reached a rung, or failed; ``row`` is its entry in the results."""
        moment, further = self._moment, (number(row.get("rungs")) or 0) > 1
        best = row if _better(row, moment.best) else moment.best
        others = [other for other in moment.trials if other.get("number") != row.get("number")]
        count = moment.count + (not further)
        self._moment = replace(moment, count=count, trials=(*others, row)[-KEPT:], best=best)
        names = costs_of([row], 3)
        place, mixers, error, *values = cells(row, names)
        costs = ", ".join(f"{title(name)} {value}" for name, value in zip(names, values, strict=True))
        state = f"rung {row['rungs']}" if further else row.get("state")
        self._event(f"trial {place} {row.get('id')}: error {error}, {costs}, {mixers}, {state}")

    def earlier(self, trials: Sequence[Data], *, front: Sequence[Data]) -> None:
        """What earlier starts have found, as entries of the results: counted and shown, not told again one by one."""
        best = None
        for row in trials:
            best = row if _better(row, best) else best
        moment = replace(self._moment, count=len(trials), trials=tuple(trials[-KEPT:]), best=best)
        self._moment = replace(moment, front=by_first_cost(front))
        self._event(f"going on after {best_line(moment)}")

    def front(self, rows: Sequence[Data]) -> None:
        """The best trade-offs so far, as entries of the results."""
        self._moment = replace(self._moment, front=by_first_cost(rows))
        ids = ", ".join(str(row.get("id")) for row in self._moment.front)
        self._event(f"front of {len(rows)}: {ids}")

    def note(self, message: str) -> None:
        """Something worth reading later as well: it stays above the view."""
        self._print(message)

    def _view(self) -> RenderableType:
        width, height = self._console.size
        return frame(self._moment, elapsed=self._elapsed(), width=width, height=height)

    def _elapsed(self) -> float:
        return self._spent + self._clock() - self._start

    def _event(self, line: str) -> None:
        """A line where there is no view to show it."""
        if self._live is None:
            self._print(f"[{clock_text(self._elapsed())}] {line}")

    def _print(self, line: str) -> None:
        encoding = self._console.encoding
        known = line.encode(encoding, "replace").decode(encoding)
        with suppress(*_NOBODY_READS):
            self._console.print(known, soft_wrap=True, markup=False, highlight=False, emoji=False)


def _better(row: Data, best: Data | None) -> bool:
    """Whether a complete trial has a smaller error than the best so far."""
    error = number(row.get("error"))
    if row.get("state") != "complete" or error is None:
        return False
    return best is None or error < best["error"]
