"""Hard limits: what a network may cost, and by how much one that does not fit is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from medsearch.core.errors import BudgetError
from medsearch.core.units import format_bytes, format_count
from medsearch.measure.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a network costs, each with its interval; None where nobody has said.

    Args:
        parameters: number of weights.
        macs: multiply-adds of one image.
        memory: peak bytes of one training step.
        latency: milliseconds of the exported file, batch 1.
        inference: peak bytes of a forward pass, batch 1.
        file: bytes of the ONNX file.
    """

    parameters: Estimate
    macs: Estimate
    memory: Estimate
    latency: Estimate
    inference: Estimate | None = None
    file: Estimate | None = None

    def to_data(self) -> dict[str, dict[str, float | str]]:
        """Plain data for JSON."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: estimate.to_data() for name, estimate in known.items() if estimate is not None}

    @property
    def impossible(self) -> bool:
        """Whether the network cannot be trained or run on this machine: a library dies of it."""
        return math.inf in (self.memory.value, self.latency.value)

    def high(self, name: str) -> float:
        """The upper end of one cost's interval; endless where nobody has said, so that no limit is taken for kept."""
        estimate: Estimate | None = getattr(self, name)
        return float("inf") if estimate is None else estimate.high


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limits of a search; None where there is none.

    Args:
        memory: peak bytes of one training step.
        latency: milliseconds of the exported file, batch 1.
        parameters: number of weights.
        inference: peak bytes of a forward pass, batch 1.
        macs: multiply-adds of one image.
        file: bytes of the ONNX file.
    """

    memory: float | None = None
    latency: float | None = None
    parameters: float | None = None
    inference: float | None = None
    macs: float | None = None
    file: float | None = None

    def limits(self) -> dict[str, float]:
        """The limits that are set, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: limit for name, limit in named.items() if limit is not None}

    def violation(self, costs: Costs) -> float:
        """By how much the worst upper bound is over its limit, as a share of the limit; 0 or less means it fits.

        A network that cannot be trained or run here, which endless costs say, fits no budget.
        """
        if costs.impossible:
            return math.inf
        return max((costs.high(name) / limit - 1 for name, limit in self.limits().items()), default=-1.0)

    def over(self, costs: Costs) -> list[str]:
        """The names of the limits that the upper bounds do not keep."""
        return [name for name, limit in self.limits().items() if costs.high(name) > limit]

    def require(self, smallest: Callable[[str], Costs], *, where: str) -> None:
        """Make sure that each limit alone is kept by something, before anything is trained.

        Args:
            smallest: for the name of a cost, the costs of the network with the least of it.
            where: the space, for the message.

        Raises:
            BudgetError: naming the limit that nothing keeps and the smallest value that can be had.
        """
        for name, limit in self.limits().items():
            least = smallest(name).high(name)
            if least > limit:
                raise BudgetError(
                    f"--budget-{OPTIONS[name]}",
                    f"no network of {where} fits {show(name, limit)}: the smallest needs {show(name, least)}.",
                    f"Give at least {show(name, least * 1.05)}, or choose a smaller space, batch or image size.",
                )

    def require_all(self, least: Callable[[Callable[[Costs], float]], Costs], *, where: str) -> None:
        """Make sure that something keeps every limit at once, before anything is trained.

        Args:
            least: for a value to make small, the costs of the network where it is smallest.
            where: the space, for the message.

        Raises:
            BudgetError: naming the limit that nothing keeps, alone or beside the others, and the least to be had.
        """
        self.require(lambda name: least(lambda costs: costs.high(name)), where=where)
        if self.violation(least(self.violation)) <= 0:
            return
        limits = self.limits()
        found = {name: least(lambda costs, name=name: self._beside(costs, name)) for name in limits}  # type: ignore[misc]
        kept = {name: costs for name, costs in found.items() if set(self.over(costs)) <= {name}}
        if any(not self.over(costs) for costs in kept.values()):
            return
        each = ", ".join(show(name, limit) for name, limit in limits.items())
        if not kept:
            raise BudgetError(where, f"no network was found that keeps {each}, even without one of them.", RAISE_MORE)
        ways = [f"--budget-{OPTIONS[name]} {show(name, kept[name].high(name) * 1.05)}" for name in kept]
        binding = min(kept, key=lambda name: kept[name].high(name) / limits[name])
        needs = show(binding, kept[binding].high(binding))
        raise BudgetError(
            f"--budget-{OPTIONS[binding]}",
            f"no network of {where} fits {each} together: beside the other limits, the smallest needs {needs}.",
            f"Give at least {' or '.join(ways)}, or choose a smaller space, batch or image size.",
        )

    def _beside(self, costs: Costs, name: str) -> float:
        """Small where a cost is small and all other limits are kept."""
        others = {other: limit for other, limit in self.limits().items() if other != name}
        over = max((costs.high(other) / limit - 1 for other, limit in others.items()), default=0.0)
        return FAR * (1 + over) if over > 0 else costs.high(name)


FAR = 1e30
"""More than any cost: a network that does not keep the other limits comes after every one that does."""

RAISE_MORE = "Raise more than one of them, or choose a smaller space, batch or image size."

OPTIONS = {
    "memory": "mem",
    "latency": "latency",
    "parameters": "params",
    "inference": "infer-mem",
    "macs": "macs",
    "file": "file",
}


def show(name: str, value: float) -> str:
    """A cost as people read it."""
    if name in ("memory", "inference", "file"):
        return format_bytes(value)
    return f"{value:.3g} ms" if name == "latency" else format_count(value)
