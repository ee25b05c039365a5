"""The costs of a genotype before anything of it is trained: parts traced and timed once, then added up.

Every distinct part (a residual branch, a downsampling, a stem, a head, at one input size) is made once: its weights
and multiply-adds are counted, its memory traced on fake tensors, its latency measured on the deployment target or read
off the table of its device.  A genotype is then a sum, and what whole networks have shown corrects it: what the runtime
fuses across parts, and what the allocator adds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medsearch.backbones import Call, Interface, NetworkPlan, ResidualBlock, plan
from medsearch.core.children import HERE, Helper
from medsearch.core.deaths import Deaths
from medsearch.core.errors import SpaceError
from medsearch.measurement.budget import Costs
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.parts import PartBenchmark, PartTimes
from medsearch.measurement.latency.residual import ResidualModel
from medsearch.measurement.latency.table import LANES, PartKey, Shape
from medsearch.measurement.macs import count
from medsearch.measurement.memory.operators import isolated
from medsearch.measurement.memory.peak import inference_peak, training_peak
from medsearch.measurement.memory.step import Loss, StepMemory, this_device
from medsearch.measurement.memory.trace import run_part
from medsearch.measurement.memory.workspace import Workspaces, run_operator
from medsearch.spaces import Genotype

GRAPH_BYTES = 4000
INFERENCE_SPREAD = 0.05
"""Half width of the interval of memory at inference, as a share; training steps say nothing of it."""
KINDS = ("frame", "conv", "attention", "mlp", "channel")
"""Kinds of parts whose shares of the latency the residual model looks at; mixers of other families count as ``mlp``."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the budgets hold for.

    Args:
        size: spatial size of the images.
        batch: images per training step.
        precision: ``"fp32"`` or ``"bf16"``, of training.
        threads: of the target at inference.
    """

    size: tuple[int, ...]
    batch: int
    precision: str
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Correction:
    """How the sum over parts relates to whole networks: measured = factor * sum, within ``spread`` (a share of it)."""

    factor: float = 1.0
    spread: float = 0.0

    @classmethod
    def fit(cls, sums: Sequence[float], measured: Sequence[float], *, margin: float = 1.25) -> Correction:
        """The median ratio, and ``margin`` times the largest deviation from it that was seen."""
        ratios = [real / predicted for real, predicted in zip(measured, sums, strict=True)]
        factor = statistics.median(ratios)
        return cls(factor=factor, spread=margin * max(abs(ratio / factor - 1) for ratio in ratios))

    def apply(self, value: float, unit: str) -> Estimate:
        """The corrected sum with its interval."""
        middle = self.factor * value
        low, high = middle * (1 - self.spread), middle * (1 + self.spread)
        return Estimate(value=middle, low=max(0.0, low), high=high, unit=unit, how="predicted")


class Sums(NamedTuple):
    """What the parts of a network add up to.

    Args:
        memory: bytes of a training step.
        latency: milliseconds.
        features: what the latency does not say about the network, for the residual model.
    """

    memory: float
    latency: float
    features: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class _PartCost:
    """A part on maps of certain shapes: what it costs, and how it is timed."""

    parameters: int
    macs: int
    kind: str
    benchmark: PartBenchmark
    place: PartKey


class CostModel:
    """Costs of genotypes for one kind of data on one device.

    Args:
        interface: task, channels and outputs.
        conditions: image size, batch, precision, threads.
        profile: the device's latencies; parts that are not in it are measured when they are first met.
        loss: of training; without it, what it takes is not part of the memory.
        inference: whether memory at inference is wanted too, which is traced for itself where training is in bf16.
        helper: runs and exports what may end the process that does.
        deaths: what did so before.
    """

    def __init__(
        self,
        interface: Interface,
        conditions: Conditions,
        profile: Profile,
        *,
        loss: Loss | None = None,
        inference: bool = False,
        helper: Helper = HERE,
        deaths: Deaths | None = None,
    ) -> None:
        self.interface, self.conditions, self.profile = interface, conditions, profile
        other = 3 if conditions.batch == 2 else 2  # batch norms of a single value have no batch 1
        device = this_device()
        batches = (other if inference else conditions.batch, conditions.batch)
        self.workspaces = Workspaces(device.kind, measure=isolated(run_operator, helper, deaths or Deaths("")))
        self.steps = StepMemory(
            interface, conditions.size, batches=batches, loss=loss, workspaces=self.workspaces, device=device
        )
        self.inference = inference
        self.memory_correction = Correction()
        self.latency_correction = ResidualModel()
        self.file_correction = Correction(spread=1.0)
        self.times = PartTimes(profile, helper=helper, deaths=deaths)
        self._parts: dict[tuple[Call, tuple[Shape, ...]], _PartCost] = {}
        self._costs: dict[Genotype, Costs] = {}

    def __call__(self, genotype: Genotype) -> Costs:
        """The predicted costs of ``genotype``."""
        if genotype not in self._costs:
            self._costs[genotype] = self._predict(genotype)
        return self._costs[genotype]

    def correct(
        self,
        *,
        memory: Correction | None = None,
        latency: ResidualModel | None = None,
        file: Correction | None = None,
    ) -> None:
        """Take over what whole networks have shown."""
        self.file_correction = file or self.file_correction
        self.memory_correction = memory or self.memory_correction
        self.latency_correction = latency or self.latency_correction
        self._costs.clear()

    def sums(self, genotype: Genotype) -> Sums:
        """The plain sums over parts, before any correction."""
        planned = plan(genotype, self.interface)
        return Sums(self._memory(planned), *self._latency(self._walk(planned)))

    def benchmarks(self, genotype: Genotype) -> list[PartBenchmark]:
        """The parts of ``genotype`` as they are timed."""
        return [part.benchmark for part in self._walk(plan(genotype, self.interface))]

    def _latency(self, walk: Iterable[_PartCost]) -> tuple[float, tuple[float, ...]]:
        """Latency and features of :class:`Sums`."""
        by_kind = dict.fromkeys(KINDS, 0.0)
        for part in walk:
            by_kind[part.kind] += self.times.of(part.place, part.benchmark)
        parts = sum(by_kind.values())
        if math.isinf(parts):
            return parts, (0.0,) * len(KINDS)
        shares = [by_kind[kind] / max(parts, 1e-9) for kind in KINDS[1:]]
        return parts + self.times.overhead, (*shares, math.log(max(parts, 1e-6)) / 3)

    def _predict(self, genotype: Genotype) -> Costs:
        planned = plan(genotype, self.interface)
        walk = list(self._walk(planned))
        memory, (milliseconds, features) = self._memory(planned), self._latency(walk)
        parameters = sum(part.parameters for part in walk)
        return Costs(
            parameters=Estimate.exact(parameters, "parameters"),
            macs=Estimate.exact(sum(part.macs for part in walk), "MAC"),
            memory=self.memory_correction.apply(memory, "bytes"),
            latency=Estimate.exact(milliseconds, "ms", "predicted")
            if math.isinf(milliseconds)
            else self.latency_correction.apply(milliseconds, features, "ms"),
            inference=self._inference(planned) if self.inference else None,
            file=self.file_correction.apply(GRAPH_BYTES * len(walk), "bytes").plus(4 * parameters),
        )

    def graph_bytes(self, genotype: Genotype) -> float:
        """Bytes of a file beside its weights, before any correction: so many for every part."""
        return GRAPH_BYTES * (2 + sum(len(stage.parts) for stage in plan(genotype, self.interface).stages))

    def _inference(self, planned: NetworkPlan) -> Estimate:
        chain = self.steps.chain(planned, batch=1, precision="fp32")
        return Correction(spread=INFERENCE_SPREAD).apply(inference_peak(chain), "bytes")

    def _walk(self, planned: NetworkPlan) -> Iterator[_PartCost]:
        """Every part in order of the data."""
        image: Shape = (self.interface.channels, *self.conditions.size)
        part = self._part(planned.stem, (image,))
        features: list[Shape] = []
        yield part
        for stage in planned.stages:
            for call in stage.parts:
                part = self._part(call, (part.benchmark.output,))
                yield part
            features.append(part.benchmark.output)
        yield self._part(planned.head, (*features, image))

    def _memory(self, planned: NetworkPlan) -> float:
        batch, precision = self.conditions.batch, self.conditions.precision
        return training_peak(self.steps.chain(planned, batch=batch, precision=precision))

    def _part(self, call: Call, shapes: tuple[Shape, ...]) -> _PartCost:
        key = (call, shapes)
        if key not in self._parts:
            with torch.device("meta"):
                module = call.make().eval()
                inputs = [torch.empty(1, *shape) for shape in shapes]
                outputs: list[Tensor] = []
                macs = count(lambda: outputs.append(_ran(call, module, inputs)))
            shape = tuple(outputs[0].shape[1:])
            benchmark = PartBenchmark(call=call, shapes=shapes, macs=macs, output=shape, lanes=_lanes(module))
            self._parts[key] = _PartCost(
                parameters=sum(p.numel() for p in module.parameters()),
                macs=macs,
                kind=_kind(call),
                benchmark=benchmark,
                place=benchmark.part_key,
            )
        return self._parts[key]


def _ran(call: Call, module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """What a part gives on tensors without contents.

    Raises:
        SpaceError: where it raises anything; only a part of another package should.
    """
    try:
        return run_part(module, inputs)
    except Exception as problem:
        shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
        seen = f"raises {type(problem).__name__} on maps of {shapes}: {problem}"
        raise SpaceError(" ".join(call.source().split()), f"{seen}.", "Mend the part, or leave it out.") from problem


def _lanes(module: nn.Module) -> int:
    """The largest power of two, up to :data:`LANES`, that divides the channels of all convolutions with a window."""
    convs = (inner for inner in module.modules() if isinstance(inner, nn.Conv2d | nn.Conv3d))
    return math.gcd(
        LANES, *(n for conv in convs if max(conv.kernel_size) > 1 for n in (conv.in_channels, conv.out_channels))
    )


def _kind(call: Call) -> str:
    """The kind of mixer in a residual branch, ``"channel"`` for a channel mixer, ``"frame"`` for all else."""
    if call.target is not ResidualBlock:
        return "frame"
    first = next(value for _, value in call.kwargs if isinstance(value, Call))
    family = getattr(first.target, "FAMILY", "channel")
    return next((kind for kind in KINDS if kind in family), "mlp")
