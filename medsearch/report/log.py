"""A search as records of Python's ``logging``, under the name ``medsearch``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from medsearch.core.callback import Callback, Row

LOGGER = logging.getLogger("medsearch")


class Log(Callback):
    """Logs phases and notes at INFO, trials at INFO, progress at DEBUG; sets no level and adds no handler."""

    def begin(self, title: str, *, seconds: float | None, spent: float, resume: str) -> None:
        """What is searched, and how to go on with it."""
        LOGGER.info("%s; go on with: %s", title, resume)

    def earlier(self, trials: Sequence[Row], *, front: Sequence[Row]) -> None:
        """How many trials there are."""
        LOGGER.info("going on after %d trials, %d on the front", len(trials), len(front))

    def phase(self, name: str) -> None:
        """Its name."""
        LOGGER.info("%s", name)

    def progress(self, done: int, total: int, what: str) -> None:
        """How far it is."""
        LOGGER.debug("%d of %d %s", done, total, what)

    def trial(self, row: Row) -> None:
        """Its number, state and error."""
        LOGGER.info("trial %s %s: %s, error %s", row.get("number"), row.get("id"), row.get("state"), row.get("error"))

    def note(self, message: str) -> None:
        """The message."""
        LOGGER.info("%s", message)
