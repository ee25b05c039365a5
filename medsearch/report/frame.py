"""What the live view of a search shows at one moment, drawn from a snapshot that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from medsearch.report.mixers import short, stages_of
from medsearch.report.networks import Data, cheapest_first, cost_text, number, or_last, text, title

KEPT = 8
_OTHER_LINES, _ALL_COSTS_WIDTH = 10, 70
_STYLES = {"failed": "red"}


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A search at one moment.

    Args:
        name: what is searched.
        resume: the command that continues it.
        seconds: the time it may take; None if trials limit it.
        phase: what is being done.
        progress: done, of how many (0 if unknown), of what.
        left: seconds that the rest of it may take; None if unknown.
        count: trials ended so far.
        trials: the last of them.
        front: the best trade-offs so far.
        best: the complete trial with the smallest error.
    """

    name: str
    resume: str = ""
    seconds: float | None = None
    phase: str = "starting"
    progress: tuple[int, int, str] | None = None
    left: float | None = None
    count: int = 0
    trials: tuple[Data, ...] = ()
    front: tuple[Data, ...] = ()
    best: Data | None = None


def frame(moment: Moment, *, elapsed: float, width: int, height: int) -> Group:
    """The view: time, progress, best so far, last trials and front, in ``height`` lines if those are 16 or more."""
    rows = max(height - _OTHER_LINES - len(hint(moment)) // width, 4)
    most = max(rows - min(len(moment.trials), KEPT, rows // 2), 1)
    front = by_first_cost(sorted(moment.front, key=_error)[:most])
    trials = moment.trials[-min(KEPT, rows - len(front)) :]
    parts: list[RenderableType] = [
        _head(moment, elapsed),
        _now(moment),
        Text(best_line(moment), style="bold", no_wrap=True, overflow="ellipsis"),
    ]
    costs = costs_of(trials or front, 3 if width >= _ALL_COSTS_WIDTH else 1)
    for heading, shown in (("last trials", trials), (f"front ({len(moment.front)})", front)):
        if shown:
            parts += [Text(), _table(heading, shown, costs=costs)]
    return Group(*parts, Text(), Text(hint(moment), style="dim"))


def hint(moment: Moment) -> str:
    """How to stop, and how to go on."""
    return "Ctrl-C stops cleanly" + (f"; resume with: {moment.resume}" if moment.resume else "")


def best_line(moment: Moment) -> str:
    """``24 trials, best error 0.0820: conv·conv·window·linear``."""
    trials = f"{moment.count} trial{'' if moment.count == 1 else 's'}"
    if moment.best is None:
        return trials
    return f"{trials}, best error {error_text(moment.best)}: {short(stages_of(moment.best))}"


def error_text(row: Data) -> str:
    """The error of a trial with four digits."""
    return text(row.get("error"), "{:.4f}".format)


def clock_text(seconds: float) -> str:
    """``2:05`` or ``1:02:05``."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def progress_text(progress: tuple[int, int, str], left: float | None = None) -> str:
    """``12 of 40 blocks, about 0:30 left``; without a total, ``12 blocks``."""
    done, total, what = progress
    if not total:
        return f"{done} {what}"
    rest = f", about {clock_text(left)} left" if left is not None and done < total else ""
    return f"{done} of {total} {what}{rest}"


def _head(moment: Moment, elapsed: float) -> Table:
    time = f"elapsed {clock_text(elapsed)}"
    if moment.seconds is not None:
        time += f", left {clock_text(moment.seconds - elapsed)}"
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(Text(moment.name, style="bold"), Text(time))
    return grid


def _now(moment: Moment) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis")
    cells: list[Text | ProgressBar] = [Text(moment.phase, style="cyan")]
    if moment.progress:
        done, total, _ = moment.progress
        cells += [ProgressBar(total=total, completed=done, width=24)] if total else []
        cells += [Text(progress_text(moment.progress, moment.left))]
    grid.add_row(*cells)
    return grid


def _table(heading: str, rows: Sequence[Data], *, costs: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=True, header_style="dim")
    table.add_column("#", justify="right", width=4, no_wrap=True)
    table.add_column(heading, ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("error", justify="right", width=6, no_wrap=True)
    for name in costs:
        table.add_column(title(name), justify="right", width=8, no_wrap=True)
    table.add_column("", width=7, no_wrap=True)
    for row in rows:
        state = str(row.get("state") or "")
        said = ("" if state == "complete" else state,)
        table.add_row(*map(Text, cells(row, costs) + said), style=_STYLES.get(state, ""))
    return table


def costs_of(rows: Sequence[Data], most: int) -> tuple[str, ...]:
    """The first costs of trials: what the search makes small comes before everything else."""
    return tuple(dict.fromkeys(name for row in rows[:1] for name in row.get("costs") or {}))[:most]


def cells(row: Data, costs: Sequence[str]) -> tuple[str, ...]:
    """Number, mixers, error and these costs of a trial."""
    return (
        text(row.get("number"), "{:.0f}".format),
        short(stages_of(row)),
        error_text(row),
        *(cost_text(row, name) for name in costs),
    )


def by_first_cost(rows: Sequence[Data]) -> tuple[Data, ...]:
    """The cheapest first; unknown ones last."""
    return tuple(cheapest_first(rows, costs_of(rows, 1)))


def _error(row: Data) -> float:
    return or_last(number(row.get("error")))
