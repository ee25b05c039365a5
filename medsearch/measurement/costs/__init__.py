"""What a network can cost: one file a cost, in this package or in another one.

A cost is one row: its name, unit, option, how a limit on it is read and shown, what it holds for.  A row imports
nothing heavy, so that the command line can list its options at once.
"""

from __future__ import annotations

from typing import Protocol

from medsearch.core.registry import Registry


class Cost(Protocol):
    """One quantity that a budget can limit; made without arguments.

    Attributes:
        option: the end of its option, as in ``--budget-mem``.
        unit: of its values, as in :class:`~medsearch.measurement.estimate.Estimate`.
        example: a limit as people write it.
        about: what it is, for the help.
    """

    option: str
    unit: str
    example: str
    about: str

    def parse(self, text: str, *, where: str) -> float:
        """A limit in :attr:`unit`, from what a person wrote; BudgetError for anything else."""
        ...

    def show(self, value: float) -> str:
        """A value as people read it."""
        ...


COSTS = Registry("cost", "medsearch.measurement.costs")


def cost_named(name: str, *, where: str) -> Cost:
    """The cost called ``name``; an error for people that says ``where`` it was seen if there is none."""
    found: Cost = COSTS.find(name, where=where)()
    return found
