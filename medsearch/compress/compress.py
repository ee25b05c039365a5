"""A trained network in; a smaller, faster, as good one out, as an ONNX file in int8 - or a refusal with the numbers.

Prune, distil, quantize, measure.  What costs more accuracy than allowed is tried again with less pruning, down to none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from medsearch.backbones import Interface, Network
from medsearch.compress.blocks import block_prune
from medsearch.compress.prune import Pruner, calibration
from medsearch.compress.quantize import Quantized, quantize
from medsearch.compress.score import score
from medsearch.core.errors import RefusedError, UsageError
from medsearch.core.units import format_bytes, format_count
from medsearch.data import Dataset
from medsearch.export.onnx import to_onnx
from medsearch.measure.latency import Latency, ratio
from medsearch.spaces import Genotype
from medsearch.train.loop import Recipe, evaluate, train
from medsearch.train.task import Task

Say = Callable[[str], None]

LARGEST = 0.35
"""Size of the int8 file as a share of the float file, at most."""
CALIBRATION = 128
"""Training images that ranges are taken from."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to aim for, and how.

    Args:
        keep_macs: share of the multiply-adds to keep when pruning; 1 for no pruning.
        max_drop: points of the task's primary metric that may be lost on the validation split.
        keep_blocks: share of the blocks to keep where block pruning makes a layer faster; 1 for no block pruning.
        recipe: of the distillation after pruning.
        seconds: for each comparison with the stopwatch.
    """

    keep_macs: float = 0.7
    max_drop: float = 1.0
    keep_blocks: float = 0.5
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=8, lr=1e-3))
    seconds: float = 0.4

    def __post_init__(self) -> None:
        for name in ("keep_macs", "keep_blocks"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(name, f"expected a share above 0 and at most 1, got {getattr(self, name)}.")
        if self.max_drop < 0:
            raise UsageError("max_drop", f"expected points, at least 0, got {self.max_drop}.")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An ONNX file, its latency beside the other's, and its metrics on the validation split through ONNX Runtime."""

    onnx: bytes = field(repr=False)
    latency: Latency
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """What came out, beside what went in.

    Args:
        before, after: the network as it was in float, and the result in int8.
        ratio: how many times faster the result is: median over pairs of runs, one thread, one image.
        primary: the metric that decides.
        model, genotype: the pruned and distilled network in float.
        steps: what each step did.
        int8: groups of nodes that compute in 8 bits.
        kept: groups that stayed in float, with the reason.
    """

    before: Measured
    after: Measured
    ratio: float
    primary: str
    model: Network = field(repr=False)
    genotype: Genotype = field(repr=False)
    steps: tuple[str, ...]
    int8: tuple[str, ...]
    kept: dict[str, str]

    @property
    def size(self) -> float:
        """The size of the int8 file as a share of the float file."""
        return len(self.after.onnx) / len(self.before.onnx)

    def summary(self) -> str:
        """One sentence."""
        old, new = (f"{measured.metrics[self.primary]:.4f}" for measured in (self.before, self.after))
        speed = f"{self.ratio:.2f}x as fast as float (paired, 1 thread)"
        return f"int8 is {self.size:.2f}x the size and {speed}, {self.primary} {old} -> {new} on validation"


def compress(
    model: Network,
    genotype: Genotype,
    interface: Interface,
    data: Dataset,
    task: Task,
    settings: Settings | None = None,
    *,
    say: Say = lambda line: None,
) -> Compressed:
    """Make ``model`` smaller and faster; it stays as it was, and the test split stays closed.

    Args:
        say: told what happens.

    Raises:
        RefusedError: if nothing that was tried is smaller, as fast and as good as the float file.
    """
    work = _Work(model.eval(), genotype, interface, data, task, settings or Settings(), say)
    failures = []
    for share in work.shares():
        found = work.attempt(share)
        failures = work.faults(found)
        if not failures:
            return found
        say(f"not good enough: {', '.join(failures)}")
    problem = f"nothing that was tried is good enough; the last: {', '.join(failures)}."
    raise RefusedError("compress", problem, "Allow a larger --max-drop, or distil for more --epochs.")
