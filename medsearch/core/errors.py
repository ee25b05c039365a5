"""What went wrong, said so that the reader knows where to look and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class MedsearchError(Exception):
    """A mistake in what the user gave us; the command line prints it without a traceback and exits with 2.

    Args:
        where: the place, from the outside in: file, path within it, option name.
        problem: what was expected and what was seen.
        remedy: what to do about it, if there is a known next step.
    """

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where, self.problem, self.remedy = where, problem, remedy
        super().__init__(f"{where}: {problem}" + (f"\n  {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its parts, since a child process hands it to its parent; subclasses may take other arguments."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[MedsearchError], args: tuple[Any, ...], state: dict[str, Any]) -> MedsearchError:
    problem = kind.__new__(kind, *args)
    problem.__dict__.update(state)
    return problem


class UsageError(MedsearchError):
    """An option or argument of the command line."""


class SpaceError(MedsearchError):
    """A search space or genotype."""


class DataError(MedsearchError):
    """A data set on disk or in memory."""


class BudgetError(MedsearchError):
    """A limit that cannot be parsed, or that nothing fits."""


class CheckpointError(MedsearchError):
    """A ``model.pt`` that cannot be trusted or read."""


class RunError(MedsearchError):
    """A run directory that cannot be used as asked."""


class WriteError(RunError):
    """A file that cannot be written: no room, no permission, no such place."""


class RefusedError(MedsearchError):
    """A finished result that did not pass its own checks, so it is not handed over (exit code 3)."""


def suggest(seen: str, known: Iterable[str]) -> str:
    """``"Did you mean 'dwconv'? Known: dwconv, identity."`` - the remedy for an unknown name."""
    names = sorted(known)
    close = get_close_matches(seen, names, n=1)
    return (f"Did you mean '{close[0]}'? " if close else "") + f"Known: {', '.join(names) or '(none)'}."
