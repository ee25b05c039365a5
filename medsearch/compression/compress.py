"""A trained network in; a smaller, faster, as good one out, as an int8 ONNX file - or a refusal with the numbers.

Prune, distil, quantize, measure.  Where that costs more accuracy than allowed, less is pruned, down to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from torch import nn

from medsearch.backbones import Interface, Network
from medsearch.compression.blocks import Verdict, block_prune
from medsearch.compression.config import CompressionConfig
from medsearch.compression.prune import Pruned, Pruner, calibration
from medsearch.compression.quantize import Quantized, quantize
from medsearch.compression.score import score
from medsearch.core.errors import RefusedError
from medsearch.core.units import format_count
from medsearch.data import Dataset
from medsearch.exporters.onnx import to_onnx
from medsearch.measurement.latency.timing import Latency, paired_benchmark
from medsearch.spaces import Genotype
from medsearch.tasks import Task
from medsearch.train.loop import TrainingRecipe, train

LARGEST = 0.35
"""Size of the int8 file as a share of the float file, at most."""
CALIBRATION = 128
"""Training images that activation ranges are taken from."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """An ONNX file, its latency in alternation with the other's, and its metrics on validation in ONNX Runtime."""

    onnx: bytes = field(repr=False)
    latency: Latency
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Compressed:
    """What came out, beside what went in.

    Args:
        before, after: the given network in float, and the result in int8.
        ratio: how many times faster the result is: median over pairs of runs, one image, one thread.
        primary: the metric that decides.
        model, genotype: the pruned and distilled network, in float.
        steps: what each step did.
        int8: the groups of nodes that compute in 8 bits.
        kept: the groups that stayed in float, with the reason.
    """

    before: Measured
    after: Measured
    ratio: float
    primary: str
    model: nn.Module = field(repr=False)
    genotype: Genotype = field(repr=False)
    steps: tuple[str, ...]
    int8: tuple[str, ...]
    kept: dict[str, str]

    @property
    def size(self) -> float:
        """Bytes of the int8 file as a share of those of the float file."""
        return len(self.after.onnx) / len(self.before.onnx)

    def summary(self) -> str:
        """One sentence."""
        old, new = (f"{measured.metrics[self.primary]:.4g}" for measured in (self.before, self.after))
        speed = f"{self.ratio:.2f}x as fast as float (paired, 1 thread)"
        return f"int8 is {self.size:.2f}x the size and {speed}, {self.primary} {old} -> {new} on validation"


def compress(
    model: Network,
    genotype: Genotype,
    interface: Interface,
    data: Dataset,
    task: Task,
    config: CompressionConfig | None = None,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Compressed:
    """Make ``model`` smaller and faster; it stays as it was, and the test split stays closed.

    Args:
        say: told what happens.

    Raises:
        RefusedError: if nothing that was tried is smaller, as fast and as good as allowed.
    """
    config = config or CompressionConfig()
    work = _Work(model=model.eval(), genotype=genotype, interface=interface, data=data, task=task, say=say)
    fault = ""
    for keep_macs, keep_blocks in config.shares():
        smaller = work.shrink(keep_macs, keep_blocks, config.recipe)
        fault = work.drop_above(config.max_drop, smaller.metrics)
        if not fault:
            found = work.deliver(smaller, config)
            fault = work.fault(found, config.max_drop)
            if not fault:
                return found
        say(f"refused with {keep_macs:.0%} of the multiply-adds: {fault}")
    remedy = "Allow a larger drop, or distil for more epochs."
    raise RefusedError("compress", f"nothing that was tried is good enough; at last {fault}.", remedy)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Smaller:
    """A network on its way, still in float, with its metrics."""

    model: nn.Module
    genotype: Genotype
    metrics: dict[str, float]
    steps: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """The given network, what it scores, and the steps that can be taken from it."""

    model: Network
    genotype: Genotype
    interface: Interface
    data: Dataset
    task: Task
    say: Callable[[str], None]

    @cached_property
    def onnx(self) -> bytes:
        return to_onnx(self.model, self.data.size, self.data.channels)

    @cached_property
    def metrics(self) -> dict[str, float]:
        return score(self.onnx, self.data.val, self.task)

    @cached_property
    def pruner(self) -> Pruner:
        return Pruner(
            model=self.model,
            genotype=self.genotype,
            interface=self.interface,
            task=self.task,
            batches=calibration(self.data.train, self.data.target),
        )

    def shrink(self, keep_macs: float, keep_blocks: float, recipe: TrainingRecipe) -> _Smaller:
        """Prune, and distil if anything went."""
        model, genotype, steps = self.model, self.genotype, []
        if keep_macs < 1:
            pruned = self.pruner(keep_macs)
            model, genotype = pruned.model, pruned.genotype
            steps.append(_pruning(self.pruner.before, pruned))
            self.say(steps[-1])
        if keep_blocks < 1:
            batches = self.pruner.batches
            model, genotype, verdicts = block_prune(
                model, genotype, self.interface, self.task, batches, keep=keep_blocks
            )
            steps.append(_block_pruning(verdicts))
            self.say(steps[-1])
        if model is self.model:
            return _Smaller(model=model, genotype=genotype, metrics=self.metrics, steps=tuple(steps))
        trained, record = train(model, self.data, self.task, recipe, teacher=self.model, evaluate_every=recipe.epochs)
        metrics, primary = record[-1].metrics, self.task.primary
        seen = f"{primary} {self.metrics[primary]:.4f} -> {metrics[primary]:.4f}"
        steps.append(f"distilled: {recipe.epochs} epochs, {seen}")
        self.say(steps[-1])
        return _Smaller(model=trained, genotype=genotype, metrics=metrics, steps=tuple(steps))

    def deliver(self, smaller: _Smaller, config: CompressionConfig) -> Compressed:
        """Quantize, and measure beside the given network."""
        primary, val = self.task.primary, self.data.val
        chosen = np.random.default_rng(0).permutation(len(self.data.train))[:CALIBRATION]
        quantized = quantize(
            to_onnx(smaller.model, self.data.size, self.data.channels),
            self.data.train.images[chosen],
            lambda data: self.task.quality(score(data, val, self.task)),
            least=self.task.quality(self.metrics) - config.max_drop * self.task.deciding.point,
            seconds=config.seconds,
            say=self.say,
        )
        shape = (1, self.data.channels, *self.data.size)
        times, before, after = paired_benchmark(self.onnx, quantized.data, (shape,), seconds=5 * config.seconds)
        return Compressed(
            before=Measured(onnx=self.onnx, latency=before, metrics=self.metrics),
            after=Measured(onnx=quantized.data, latency=after, metrics=score(quantized.data, val, self.task)),
            ratio=times,
            primary=primary,
            model=smaller.model,
            genotype=smaller.genotype,
            steps=(*smaller.steps, _quantizing(quantized)),
            int8=quantized.int8,
            kept=quantized.kept,
        )

    def drop_above(self, allowed: float, metrics: dict[str, float]) -> str:
        """What is wrong with these values of the metrics; nothing if the primary one is within ``allowed`` points."""
        primary, deciding = self.task.primary, self.task.deciding
        points = (self.task.quality(self.metrics) - self.task.quality(metrics)) / deciding.point
        way = "falls" if deciding.better == "higher" else "rises"
        seen = f"{primary} {way} from {self.metrics[primary]:.4f} to {metrics[primary]:.4f}"
        return f"{seen}, {points:.2f} points where {allowed:g} are allowed" if points > allowed else ""

    def fault(self, found: Compressed, max_drop: float) -> str:
        """What is wrong with a result, if anything."""
        if found.size > LARGEST:
            return f"the int8 file has {found.size:.2f}x the size of the float file where {LARGEST}x is allowed"
        if found.ratio < 1:
            return f"the int8 file is {found.ratio:.2f}x as fast as the float file"
        return self.drop_above(max_drop, found.after.metrics)


def _pruning(before: Pruned, after: Pruned) -> str:
    share = f"{format_count(before.macs)} -> {format_count(after.macs)} multiply-adds ({after.macs / before.macs:.0%})"
    blocks = ", ".join(f"{stage + 1}.{block + 1}" for stage, block in after.dropped)
    loss = f"loss on training images {before.loss:.3f} -> {after.loss:.3f}"
    return f"pruned: {share}, {f'without blocks {blocks}, ' if blocks else ''}{loss}"


def _block_pruning(verdicts: Sequence[Verdict]) -> str:
    if not verdicts:
        return "block-pruned: nothing, no perceptron has widths with a common divisor of 16"
    taken = sum(verdict.taken for verdict in verdicts)
    best = max(verdicts, key=lambda verdict: min(verdict.gains)).gains
    speed = f"at best {best.over_float:.2f}x as fast as dense float, {best.over_int8:.2f}x as dense int8"
    return f"block-pruned: {taken} of {len(verdicts)} perceptrons, {speed}"


def _quantizing(quantized: Quantized) -> str:
    count = f"{len(quantized.int8)} of {len(quantized.int8) + len(quantized.kept)} groups of nodes compute in int8"
    return f"quantized: {count}, {'clipped' if quantized.clipped else 'whole'} ranges, all weights stored in int8"
