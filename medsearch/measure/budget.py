"""Hard limits: what a network may cost, and by how much one that does not fit is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medsearch.core.errors import BudgetError
from medsearch.core.units import format_bytes, format_count
from medsearch.measure.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a network costs, each with its interval."""

    parameters: Estimate
    macs: Estimate
    memory: Estimate
    latency: Estimate

    def to_data(self) -> dict[str, dict[str, float | str]]:
        """Plain data for JSON."""
        return {name: getattr(self, name).to_data() for name in ("parameters", "macs", "memory", "latency")}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limits of a search; None where there is none.

    Args:
        memory: peak bytes of one training step.
        latency: milliseconds of the exported file, batch 1.
        parameters: number of weights.
    """

    memory: float | None = None
    latency: float | None = None
    parameters: float | None = None

    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        named = {"memory": self.memory, "latency": self.latency, "parameters": self.parameters}
        return {name: limit for name, limit in named.items() if limit is not None}

    def excess(self, costs: Costs) -> float:
        """By how much the worst upper bound is over its limit, as a share of the limit; 0 or less means it fits."""
        return max((getattr(costs, name).high / limit - 1 for name, limit in self.limits().items()), default=-1.0)

    def over(self, costs: Costs) -> list[str]:
        """The names of the limits that the upper bounds do not keep."""
        return [name for name, limit in self.limits().items() if getattr(costs, name).high > limit]

    def require(self, smallest: Callable[[str], Costs], *, where: str) -> None:
        """Make sure that something fits, before anything is trained.

        Args:
            smallest: for the name of a cost, the costs of the network with the least of it.
            where: the space, for the message.

        Raises:
            BudgetError: naming the limit that nothing keeps and the smallest value that can be had.
        """
        for name, limit in self.limits().items():
            least = getattr(smallest(name), name).high
            if least > limit:
                raise BudgetError(
                    f"--budget-{OPTIONS[name]}",
                    f"no network of {where} fits {show(name, limit)}: the smallest needs {show(name, least)}.",
                    f"Give at least {show(name, least * 1.05)}, or choose a smaller space, batch or image size.",
                )


OPTIONS = {"memory": "mem", "latency": "latency", "parameters": "params"}


def show(name: str, value: float) -> str:
    """A cost as people read it."""
    if name == "memory":
        return format_bytes(value)
    return f"{value:.3g} ms" if name == "latency" else format_count(value)
