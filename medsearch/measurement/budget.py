"""Hard limits: what a network may cost, and by how much one that does not fit is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping

from medsearch.core.config import Node
from medsearch.core.errors import BudgetError, suggest
from medsearch.measurement.costs import COSTS, cost_named
from medsearch.measurement.estimate import Estimate


class Costs(Mapping[str, Estimate]):
    """What is known of a network's costs, each with its interval, by the name of the cost.

    ``costs | {"memory": ...}`` are the same with others in their place.
    """

    def __init__(self, **known: Estimate) -> None:
        self._known = known

    def __getitem__(self, name: str) -> Estimate:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __or__(self, others: Mapping[str, Estimate]) -> Costs:
        return Costs(**{**self, **others})

    def __repr__(self) -> str:
        return f"Costs({', '.join(f'{name}={estimate!r}' for name, estimate in self.items())})"

    def to_data(self) -> dict[str, dict[str, float | str]]:
        """Plain data for JSON."""
        return {name: estimate.to_data() for name, estimate in self.items()}

    @property
    def impossible(self) -> bool:
        """Whether the network cannot be trained or run on this machine: a library dies of it."""
        return any(math.isinf(estimate.value) for estimate in self.values())

    def high(self, name: str) -> float:
        """The upper end of one cost's interval; endless where nobody has said, so that no limit is taken for kept."""
        return self[name].high if name in self else math.inf

    def low(self, name: str) -> float:
        """The lower end of one cost's interval; 0 where nobody has said."""
        return self[name].low if name in self else 0.0


class Budget(Mapping[str, float]):
    """The hard limits of a search: values by the names of costs, each in the unit of its cost.

    ``Budget(memory="1GB", latency="20ms")``; a number is taken to be in the unit, None sets no limit.

    Args:
        limits: by the name of a cost; see :data:`~medsearch.measurement.costs.COSTS`.

    Raises:
        BudgetError: for a cost that does not exist, and for a limit that cannot be read.
    """

    def __init__(self, **limits: str | float | None) -> None:
        known = COSTS if limits else ()
        for name in limits:
            if name not in known:
                raise BudgetError(f"Budget({name}=...)", "there is no such cost.", suggest(name, known))
        self._limits = {name: _limit(name, limit) for name, limit in limits.items() if limit is not None}

    def __getitem__(self, name: str) -> float:
        return self._limits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def __hash__(self) -> int:
        return hash(frozenset(self._limits.items()))

    def __repr__(self) -> str:
        return f"Budget({', '.join(f'{name}={show(name, limit)!r}' for name, limit in self.items())})"

    def violation(self, costs: Costs) -> float:
        """By how much the worst upper bound is over its limit, as a share of the limit; 0 or less means it fits.

        A network that cannot be trained or run here, which endless costs say, fits no budget.
        """
        if costs.impossible:
            return math.inf
        return max((costs.high(name) / limit - 1 for name, limit in self.items()), default=-1.0)

    def violation_at_best(self, costs: Costs) -> float:
        """The same by the lower bounds: 0 or less where the network may fit."""
        if costs.impossible:
            return math.inf
        return max((costs.low(name) / limit - 1 for name, limit in self.items()), default=-1.0)

    def doubtful(self, costs: Costs) -> list[str]:
        """The names of the limits that the network may keep or not."""
        return [name for name, limit in self.items() if costs.low(name) <= limit < costs.high(name)]

    def only(self, names: Collection[str]) -> Budget:
        """The limits on these costs alone."""
        return Budget(**{name: limit for name, limit in self.items() if name in names})

    def over(self, costs: Costs) -> list[str]:
        """The names of the limits that the upper bounds do not keep."""
        return [name for name, limit in self.items() if costs.high(name) > limit]

    def require(self, smallest: Callable[[str], Costs], *, where: str) -> None:
        """Make sure that each limit alone may be kept by something, before anything is trained.

        What counts is the lower end of an interval; what is said to be needed is the upper one, which is enough.

        Args:
            smallest: for the name of a cost, the costs of the network with the least of it.
            where: the space, for the message.

        Raises:
            BudgetError: naming the limit that nothing keeps and the smallest value that can be had.
        """
        for name, limit in self.items():
            found = smallest(name)
            least = found.high(name)
            if found.low(name) > limit:
                raise BudgetError(
                    f"--budget-{option(name)}",
                    f"no network of {where} fits {show(name, limit)}: the smallest needs {show(name, least)}.",
                    f"Give at least {show(name, least * 1.05)}, or choose a smaller space, batch or image size.",
                )

    def require_all(self, least: Callable[[Callable[[Costs], float]], Costs], *, where: str) -> None:
        """Make sure that something may keep every limit at once, before anything is trained.

        What counts is the lower end of an interval, as for :meth:`require`.

        Args:
            least: for a value to make small, the costs of the network where it is smallest.
            where: the space, for the message.

        Raises:
            BudgetError: naming the limit that nothing keeps, alone or beside the others, and the least to be had.
        """
        self.require(lambda name: least(lambda costs: costs.low(name)), where=where)
        if self.violation_at_best(least(self.violation_at_best)) <= 0:
            return
        limits = dict(self)
        found = {name: least(lambda costs, name=name: self._beside(costs, name)) for name in limits}  # type: ignore[misc]
        over = {name: {one for one, limit in limits.items() if costs.low(one) > limit} for name, costs in found.items()}
        kept = {name: costs for name, costs in found.items() if over[name] <= {name}}
        if any(not over[name] for name in kept):
            return
        each = ", ".join(show(name, limit) for name, limit in limits.items())
        if not kept:
            raise BudgetError(where, f"no network was found that keeps {each}, even without one of them.", RAISE_MORE)
        ways = [f"--budget-{option(name)} {show(name, kept[name].high(name) * 1.05)}" for name in kept]
        binding = min(kept, key=lambda name: kept[name].high(name) / limits[name])
        needs = show(binding, kept[binding].high(binding))
        raise BudgetError(
            f"--budget-{option(binding)}",
            f"no network of {where} fits {each} together: beside the other limits, the smallest needs {needs}.",
            f"Give at least {' or '.join(ways)}, or choose a smaller space, batch or image size.",
        )

    def _beside(self, costs: Costs, name: str) -> float:
        """Small where a cost is small and all other limits are kept."""
        others = {other: limit for other, limit in self.items() if other != name}
        over = max((costs.low(other) / limit - 1 for other, limit in others.items()), default=0.0)
        return FAR * (1 + over) if over > 0 else costs.low(name)


FAR = 1e30
"""More than any cost: a network that does not keep the other limits comes after every one that does."""

RAISE_MORE = "Raise more than one of them, or choose a smaller space, batch or image size."


def option(name: str) -> str:
    """The end of the option that limits a cost: ``mem`` of ``--budget-mem``."""
    return cost_named(name, where="budget").option


def show(name: str, value: float) -> str:
    """A cost as people read it."""
    return cost_named(name, where="budget").show(value)


def read_budget(node: Node) -> Budget:
    """The limits written in a recipe, or given in Python as a mapping.

    Raises:
        MedsearchError: for a cost that does not exist, and for a limit that cannot be read.
    """
    if isinstance(node.value, Budget):
        return node.value
    limits: dict[str, str | float | None] = {}
    for name, entry in node.mapping(optional=COSTS).items():
        if isinstance(entry.value, int | float) and not isinstance(entry.value, bool):
            limits[name] = entry.number()
        elif entry.value is not None:
            limits[name] = cost_named(name, where=entry.where).parse(entry.text(), where=entry.where)
    return Budget(**limits)


def _limit(name: str, limit: str | float) -> float:
    where = f"Budget({name}=...)"
    value = cost_named(name, where=where).parse(limit, where=where) if isinstance(limit, str) else float(limit)
    if not 0 < value < math.inf:
        raise BudgetError(where, f"expected a limit above zero, got {limit!r}.", "Write it like memory='1GB'.")
    return value
