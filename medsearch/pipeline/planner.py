"""How a search spends its time: how many networks it tries, for how long each, and what the best ones get.

The time that is asked for is shared out once more at every turn of the search, by the clock:

* what comes after the training (exporting, measuring, reading the test split, compressing) is kept aside;
* of the rest, a share goes to trials: the more time there is, the larger, because with little time nearly all of it has
  to go to one network, and with much time there is more to be found than to be trained;
* trials are trained in rungs (see :mod:`medsearch.nas.rungs`) by equal time, not by equal epochs: what a network learns
  in a given time is what is asked here, and a fast one makes more steps in it;
* the best ones then go on from where they stand until the time is used up.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from medsearch.core.units import format_seconds
from medsearch.nas.rungs import REDUCTION

LEAST_STEPS = 16
"""Of a rung by the clock, however slow the network."""
ENDING = (12.0, 5.0)
"""Seconds of one delivery, and of report and end, where no such search has ended on this device before."""
MARGIN = 1.2
"""How much longer they may take than the last time."""
COMPRESSION_SHARE, COMPRESSION_MOST = 0.15, 600.0
"""Of the time asked for, and seconds at most, that are kept aside for a compression."""
FINALIST_SECONDS = 330.0
"""Worker seconds of training for every finalist but the first."""
NETWORK_SECONDS = 5.0
"""The number of networks tried is the root of the worker seconds over this: see :func:`plan`."""
LEAST_SEARCH, MOST_SEARCH = 0.2, 0.5
"""The share of trials in the training time, with a minute and from half an hour on."""
OTHERS_SHARE = 0.25
"""Of the last phase, for all finalists but the best, where one worker trains them all."""
EPOCHS_SEARCH, EPOCHS_FULL = 4, 60
"""Of the first rung and of the full training, where no time is given."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How the time of a run is spent; seconds are those of the run, over all its starts.

    Args:
        networks: how many are tried, if they train as fast as expected; the clock decides.
        rungs: up to which trials are trained.
        first: seconds of training to the first rung; None where rungs are counted in epochs.
        epochs: to the first rung; None where it is given in seconds.
        search_end: when the last trial may begin; None without a limit of time.
        training_end: when the full training ends.
        finalists: trained fully.
    """

    networks: int
    rungs: int
    first: float | None
    epochs: int | None
    search_end: float | None
    training_end: float | None
    finalists: int

    def cumulative(self, rung: int) -> float:
        """What a trial has been trained for when it reaches ``rung``, from 0, in units of the first."""
        return float(REDUCTION**rung)

    def sentence(self) -> str:
        """What will be done with the time, for people."""
        if self.networks == 1:
            return "1 network is trained" + ("" if self.training_end is None else " until the time is used up")
        number = f"{self.networks} networks" if self.training_end is None else f"about {self.networks} networks"
        rungs = f", the best third of them {REDUCTION} times as long" if self.rungs > 1 else ""
        rungs += ", and so on" if self.rungs > 2 else ""
        best = "the best one" if self.finalists == 1 else f"the best {self.finalists}"
        if self.training_end is None:
            best += " is trained fully" if self.finalists == 1 else " are trained fully"
        else:
            best += f" {'goes' if self.finalists == 1 else 'go'} on until the time is used up"
        return f"{number} are tried with {self._each()} each{rungs}; {best}"

    def _each(self) -> str:
        if self.first is None:
            return f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"{format_seconds(self.first)} of training"

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Self:
        """What :meth:`to_data` gave."""
        return cls(**data)


def plan(
    *,
    left: float,
    spent: float,
    workers: int,
    finalists: int,
    ending: Sequence[float] = ENDING,
    compress: bool = False,
    first: float | None = None,
    epochs: int | None = None,
    networks: int | None = None,
    continues: bool = True,
) -> Plan:
    """Share out what is left of a run's time.

    Args:
        left: seconds until the run has to be over.
        spent: seconds of the run so far.
        workers: trainings at once.
        finalists: wanted at most.
        ending: seconds of one delivery, and of all that comes after the deliveries.
        compress: whether the best network is compressed at the end.
        first: seconds of the first rung, where earlier trials have fixed it.
        epochs: of the first rung, where they are asked for.
        networks: tried at most.
        continues: whether trials can be trained further.
    """
    aside = min(COMPRESSION_SHARE * left, COMPRESSION_MOST) if compress else 0.0
    delivery, report = ending
    training = max(0.0, left - aside - report - delivery)
    networks = min(max(1, round(math.sqrt(training * workers / NETWORK_SECONDS))), networks or sys.maxsize)
    count = max(1, min(finalists, networks, 1 + math.floor(training * workers / FINALIST_SECONDS)))
    training = max(0.0, training - (count - 1) * delivery)
    seconds = training * workers
    rungs = _rungs(networks) if continues else 1
    share = 0.0 if networks == 1 else _search_share(seconds)
    each = seconds * share / (networks * (1 + (rungs - 1) * (1 - 1 / REDUCTION)))
    return Plan(
        networks=networks,
        rungs=rungs,
        first=None if epochs is not None else first if first is not None else each,
        epochs=epochs,
        search_end=spent + training * share,
        training_end=spent + training,
        finalists=count,
    )


def without_clock(
    *, trials: int, finalists: int, first: float | None = None, epochs: int | None = None, continues: bool = True
) -> Plan:
    """A plan for so many trials, in epochs unless earlier ones were in seconds; it takes the time that it takes."""
    return Plan(
        networks=trials,
        rungs=_rungs(trials) if continues else 1,
        first=first if epochs is None else None,
        epochs=epochs or (EPOCHS_SEARCH if first is None else None),
        search_end=None,
        training_end=None,
        finalists=min(finalists, trials),
    )


def _rungs(networks: int) -> int:
    """As many as leave about two networks at the last one: who of them is trained fully is the rung after it."""
    return max(1, math.floor(math.log(networks, REDUCTION) + 0.5))


def _search_share(seconds: float) -> float:
    """From the least to the largest share, by the logarithm of the worker seconds of training."""
    grown = math.log(max(seconds, 1.0) / 60) / math.log(30)
    return LEAST_SEARCH + (MOST_SEARCH - LEAST_SEARCH) * min(1.0, max(0.0, grown))
