"""What every task offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medsearch.tasks.targets import Target

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is written and read.

    Args:
        label: what people call it.
        unit: after the number, if it has one.
        better: whether higher or lower values are better.
        digits: after the point.
        point: what people call a point of it: 0.01, or 0.1 dB.
    """

    label: str
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    digits: int = 3
    point: float = 0.01

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON, by which a report is written where the task is not known."""
        return asdict(self)


class Task(ABC):
    """A loss to train with, metrics to judge by, and everything else that depends on what is asked of a network.

    ``primary`` names the metric that decides; an instance may choose it by its number of outputs.

    Args:
        outputs: of the network, K.
        dims: spatial axes, 2 or 3.
    """

    TARGET: ClassVar[Target]
    """What is to be learnt of an image."""
    METRICS: ClassVar[Mapping[str, Metric]]
    """What :meth:`metrics` finds, by name."""
    HEAD_LIKE: ClassVar[str] = ""
    """Another task, whose heads serve this one where a space or a head does not name it."""
    DENSE: ClassVar[bool] = False
    """Whether outputs are maps as large as the image, (B, K, *S), not (B, K)."""
    RESTORES: ClassVar[bool] = False
    """Whether the head says what to add to the image, so that the network's output is an image in raw intensities."""
    BALANCED: ClassVar[str] = ""
    """The metric that does not hide what happens to rare classes, as people call it."""

    primary: str

    def __init__(self, *, outputs: int, dims: int) -> None:
        self.outputs, self.dims = outputs, dims

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Scalar to minimise, for one batch; targets are as :meth:`Target.tensor` gives them."""

    @abstractmethod
    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """A value for each of ``METRICS``, over a whole split."""

    def match(self, output: Tensor, wanted: Tensor) -> Tensor:
        """Scalar distance to another network's output for the same images, which distillation minimises."""
        return ((output - wanted) ** 2).mean()

    def error(self, metrics: Mapping[str, float]) -> float:
        """What a search minimises: falls as the primary metric gets better; what it lacks to 1, if higher is better."""
        return 1.0 - metrics[self.primary] if self.deciding.better == "higher" else metrics[self.primary]

    @property
    def error_label(self) -> str:
        """What people call :meth:`error`."""
        return f"1 − {self.deciding.label}" if self.deciding.better == "higher" else self.deciding.label

    @property
    def deciding(self) -> Metric:
        """How the primary metric is written and read."""
        return self.METRICS[self.primary]

    def quality(self, metrics: Mapping[str, float]) -> float:
        """The primary metric, negative where lower is better, so that more is better."""
        value = metrics[self.primary]
        return value if self.deciding.better == "higher" else -value
