"""How to train a network within a limit: images at once, pieces of a batch, precision, and what is run again.

A batch that is too large goes through in pieces whose gradients add up, so the wanted batch is what is learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medsearch.core.errors import BudgetError
from medsearch.core.units import format_bytes


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One way to carry out a training step.

    Args:
        batch: images at once, in the largest piece.
        accumulate: pieces in a step.
        precision: ``"fp32"`` or ``"bf16"``.
        checkpointing: whether blocks are run again in the backward pass.
    """

    batch: int
    accumulate: int
    precision: str
    checkpointing: bool


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The training plan that was chosen, with its predicted memory.

    Args:
        batch: images at once.
        accumulate: pieces in a step, which together are the wanted batch.
        precision: ``"fp32"`` or ``"bf16"``.
        checkpointing: whether blocks are run again in the backward pass.
        memory: peak bytes of the step, the upper bound.
    """

    batch: int
    accumulate: int
    precision: str
    checkpointing: bool
    memory: float


def training_plans(wanted: int, *, precisions: Sequence[str], smallest: int = 2) -> list[TrainingPlan]:
    """Every training plan for a step of ``wanted`` images, the one to be preferred first.

    As little as possible is given up, in this order: the whole batch in the first precision, in the next ones; smaller
    and smaller pieces likewise; and all of it again with blocks that are run twice, which takes a third more time.
    """
    pieces = [count for count in range(1, wanted + 1) if wanted // count >= min(smallest, wanted)]
    sizes = {-(-wanted // count): count for count in reversed(pieces)}
    return [
        TrainingPlan(batch=batch, accumulate=sizes[batch], precision=precision, checkpointing=checkpointing)
        for checkpointing in (False, True)
        for batch in sorted(sizes, reverse=True)
        for precision in precisions
    ]


def fit(
    peak: Callable[[TrainingPlan], float],
    *,
    limit: float,
    wanted: int,
    precisions: Sequence[str] = ("fp32", "bf16"),
    smallest: int = 2,
    seconds_per_image: Callable[[TrainingPlan], float] | None = None,
) -> Fit:
    """The first training plan that keeps the limit; the fastest of those that do where times are known.

    Args:
        peak: upper bound of the peak bytes of a step.
        limit: bytes.
        wanted: images that one step learns from.
        precisions: that may be used, the preferred one first.
        smallest: images that must go through at once, because batch norms need more than one.
        seconds_per_image: of a step carried out this plan, measured or predicted.

    Raises:
        BudgetError: if no plan keeps the limit, with what the smallest one takes.
    """
    candidates = training_plans(wanted, precisions=precisions, smallest=smallest)
    taken = {}
    for plan in candidates:
        taken[plan] = peak(plan)
        if taken[plan] <= limit and seconds_per_image is None:
            return _fit(plan, taken[plan])
    fitting = [plan for plan in candidates if taken[plan] <= limit]
    if not fitting:
        least = min(taken.values())
        raise BudgetError(
            "--budget-mem",
            f"no training plan keeps {format_bytes(limit)}: the smallest needs {format_bytes(least)}.",
            f"Give at least {format_bytes(1.05 * least)}, or choose a smaller network or image size.",
        )
    assert seconds_per_image is not None
    return _fit(fastest := min(fitting, key=seconds_per_image), taken[fastest])


def _fit(plan: TrainingPlan, memory: float) -> Fit:
    return Fit(**vars(plan), memory=memory)
