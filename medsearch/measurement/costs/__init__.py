"""What a network can cost: one file a cost, in this package or in another one.

A cost is one row: what it is called and counted in, how a limit on it is read and shown, what it holds for, how it is
predicted, by what predictions are corrected, and how it is measured.  A row imports nothing heavy before it is asked
for a number, so that the command line can list its options at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from medsearch.core.errors import MedsearchError, UsageError, suggest
from medsearch.core.registry import Registry
from medsearch.core.units import format_si, parse_si
from medsearch.measurement.estimate import Estimate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medsearch.data import Dataset
    from medsearch.measurement.calibration import Accuracy
    from medsearch.measurement.latency.timing import Latency
    from medsearch.measurement.model import CostModel
    from medsearch.spaces import Genotype


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How the networks of a search are trained and run: what a limit holds for.

    Args:
        size: of an image.
        batch: images per training step.
        training: in which precision, or how else, in words.
        runtime, threads: that run the exported file.
        artifact: name of that file.
    """

    size: tuple[int, ...]
    batch: int
    training: str
    runtime: str
    threads: int
    artifact: str


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a cost may ask to predict itself for a network that is not made yet.

    Args:
        genotype: of the network.
        model: knows its parts, and the conditions (image size, batch, precision).
        parameters, macs: of the whole network, for one image.
        correction: by what whole networks have shown, or :meth:`Cost.correction`.
    """

    genotype: Genotype
    model: CostModel
    parameters: int
    macs: int
    correction: Any


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a cost may ask to measure itself on one network.

    Args:
        network: in evaluation mode, on the device that trains; to be left as it was.
        data: whose images it takes.
        task, recipe: of its training.
        artifact: the exported file, as the deployment target takes it; empty unless :attr:`Cost.of_file`.
        timing: of that file on the target; None unless :attr:`Cost.timed`.
        step_bytes: runs a training step; returns its peak memory.
    """

    network: nn.Module
    data: Dataset
    task: Any
    recipe: Any
    artifact: bytes
    timing: Latency | None
    step_bytes: Callable[[], int]

    def image(self) -> Tensor:
        """A batch of one image of zeros, on the network's device."""
        from medsearch.measurement.memory.inference import blank_image

        return blank_image(self.network, self.data)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whole networks that were measured, to correct predictions by.

    Args:
        model: predicts.
        sums: of each network, what :meth:`Cost.sums` says of it.
        measured: the cost of each.
        known: what a profile of the device says of such networks: the residual model of their latency, or None.
    """

    model: CostModel
    sums: Sequence[tuple[float, ...]]
    measured: Sequence[float]
    known: Any = None


class Cost:
    """One quantity that can be limited or made small; a subclass says what differs from here.

    It can :meth:`predict` itself, :meth:`measure` itself, or both.  What is not predicted is measured before a trial,
    on the untrained network; what is not measured cannot be certified, so that a limit on it is never kept.

    Attributes:
        option: the end of its option, as in ``--budget-mem``.
        unit: of its values, as in :class:`~medsearch.measurement.estimate.Estimate`.
        example: a limit as people write it.
        about: what it is, for the help.
        title: what a column or an axis with it is called.
        exact: whether its prediction is exact and takes no time, so that it is told of every network.
        of_file: whether it is measured on the exported file.
        timed: whether it comes from timing that file, which happens in a process that does nothing else.
    """

    option: ClassVar[str]
    unit: ClassVar[str]
    example: ClassVar[str]
    about: ClassVar[str]
    title: ClassVar[str]
    exact: ClassVar[bool] = False
    of_file: ClassVar[bool] = False
    timed: ClassVar[bool] = False

    def parse(self, text: str, *, where: str) -> float:
        """A limit in :attr:`unit`, from what a person wrote; BudgetError for anything else.

        By default a number and the unit, which may have a prefix: ``5mJ`` is 0.005 J.
        """
        return parse_si(text, self.unit, where=where)

    def show(self, value: float) -> str:
        """A value as people read it; by default ``5 mJ``."""
        return format_si(value, self.unit)

    def conditions(self, circumstances: Circumstances) -> str:
        """What it holds for, in words."""
        return ""

    def predict(self, asked: Prediction) -> Estimate | None:
        """Its value for a network that is not made yet, with an interval; None if it can only be measured."""
        return None

    def correction(self) -> Any:
        """What its predictions are corrected by before any whole network was measured, its doubt included.

        None if predictions need no correction.
        """
        return None

    def sums(self, model: CostModel, genotype: Genotype) -> tuple[float, ...]:
        """What a prediction starts from: plain numbers, kept beside what a network really took, to correct by."""
        return ()

    def calibrate(self, seen: Calibration) -> tuple[Any, Accuracy | None]:
        """The correction that whole networks show, and how far predictions are from each that they have not seen.

        Few may have been measured, or none: the interval is then as wide as without them, or nearly so.
        """
        return self.correction(), None

    def measure(self, asked: Measurement) -> Estimate | None:
        """Its value for a network, measured; None where it cannot be measured.

        Called in a process of its own, which it may end.
        """
        return None


COSTS = Registry("cost", "medsearch.measurement.costs")


def cost_named(name: str, *, where: str) -> Cost:
    """The cost called ``name``; an error for people that says ``where`` it was seen if there is none."""
    found: Cost = COSTS.find(name, where=where)()
    return found


def check_objectives(names: Collection[str], *, where: str, error: type[MedsearchError] = UsageError) -> None:
    """Make sure that every name is that of a cost, that there is one, and none twice.

    Raises:
        MedsearchError: an ``error`` otherwise.
    """
    if not names:
        raise error(where, "names no cost.", "Name what is to be small beside the error: latency,memory")
    for name in names:
        if name not in COSTS:
            raise error(where, f"there is no cost '{name}'.", suggest(name, COSTS))
    if len(set(names)) < len(names):
        raise error(where, f"names a cost twice: {', '.join(names)}.", "Name each once.")


def wanted(objectives: Collection[str], limits: Collection[str]) -> tuple[str, ...]:
    """The costs that a search has to know of every network: objectives first, then limits, then what is exact."""
    exact = (name for name in COSTS if COSTS[name].exact)  # type: ignore[attr-defined]
    return tuple(dict.fromkeys((*objectives, *limits, *exact)))
