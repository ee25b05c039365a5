"""The costs of a genotype before anything of it is trained: parts traced and timed once, then added up.

Every distinct part (a residual branch, a downsampling, a stem, a head, at one input size) is made once: its weights
and multiply-adds are counted, its memory traced on fake tensors, its latency measured in ONNX Runtime.  A genotype is
then a sum, and two numbers learned from whole networks correct what the sum cannot see: what the runtime fuses across
parts, and what the allocator adds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medsearch.backbones import Call, Interface, plan
from medsearch.export.onnx import to_onnx_fast
from medsearch.measure.budget import Costs
from medsearch.measure.device import Profile
from medsearch.measure.estimate import Estimate
from medsearch.measure.latency import latency
from medsearch.measure.memory import Footprint, footprint, run_part, training_peak
from medsearch.spaces import Genotype

Shape = tuple[int, ...]

_Map = tuple[Shape, torch.dtype]

OVERHEAD = "an empty call"
CHAIN = 4


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the budgets hold for.

    Args:
        size: spatial size of the images.
        batch: images per training step.
        precision: ``"fp32"`` or ``"bf16"``, of training.
        threads: of the runtime at inference.
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


@dataclass(frozen=True, kw_only=True)
class _Part:
    parameters: int
    macs: int
    footprint: Footprint
    output: _Map


class CostModel:
    """Costs of genotypes for one kind of data on one device.

    Args:
        interface: task, channels and outputs.
        conditions: image size, batch, precision, threads.
        profile: the device's latencies; parts that are not in it are measured when they are first met.
    """

    def __init__(self, interface: Interface, conditions: Conditions, profile: Profile) -> None:
        self.interface, self.conditions, self.profile = interface, conditions, profile
        self.memory_correction = Correction()
        self.latency_correction = Correction()
        self._parts: dict[tuple[str, tuple[_Map, ...]], _Part] = {}
        self._costs: dict[Genotype, Costs] = {}

    def __call__(self, genotype: Genotype) -> Costs:
        """The predicted costs of ``genotype``."""
        if genotype not in self._costs:
            self._costs[genotype] = self._predict(genotype)
        return self._costs[genotype]

    def correct(self, *, memory: Correction | None = None, latency: Correction | None = None) -> None:
        """Take over what whole networks have shown."""
        self.memory_correction = memory or self.memory_correction
        self.latency_correction = latency or self.latency_correction
        self._costs.clear()

    def sums(self, genotype: Genotype) -> tuple[float, float]:
        """Memory (bytes) and latency (ms) as the plain sums over parts, before any correction."""
        walk = list(self._walk(genotype))
        parts = sum(self._milliseconds(call, tuple(shape for shape, _ in maps), part) for call, maps, part, _ in walk)
        return self._memory(walk), parts + self._overhead()

    def _predict(self, genotype: Genotype) -> Costs:
        walk = list(self._walk(genotype))
        memory, milliseconds = self.sums(genotype)
        return Costs(
            parameters=Estimate.exact(sum(part.parameters for _, _, part, _ in walk), "parameters"),
            macs=Estimate.exact(sum(part.macs for _, _, part, _ in walk), "MAC"),
            memory=self.memory_correction.apply(memory, "bytes"),
            latency=self.latency_correction.apply(milliseconds, "ms"),
        )

    def _walk(self, genotype: Genotype) -> Iterator[tuple[Call, tuple[_Map, ...], _Part, bool]]:
        """Every part, the maps (C, *S) it is given and whether the head reads its output, in order of the data."""
        planned = plan(genotype, self.interface)
        image: _Map = ((self.interface.channels, *self.conditions.size), torch.float32)
        part = self._part(planned.stem, (image,))
        features: list[_Map] = []
        yield planned.stem, (image,), part, not planned.stages[0]
        for calls in planned.stages:
            for i, call in enumerate(calls):
                given = (part.output,)
                part = self._part(call, given)
                yield call, given, part, i == len(calls) - 1
            features.append(part.output)
        seen = (*features, image)
        yield planned.head, seen, self._part(planned.head, seen), False

    def _memory(self, walk: list[tuple[Call, tuple[_Map, ...], _Part, bool]]) -> float:
        image_bytes = 4 * self.interface.channels * math.prod(self.conditions.size) * self.conditions.batch
        ends = [i for i, (_, _, _, is_end) in enumerate(walk) if is_end]
        return training_peak([part.footprint for _, _, part, _ in walk], batch_bytes=image_bytes, stage_ends=ends)

    def _part(self, call: Call, maps: tuple[_Map, ...]) -> _Part:
        key = (call.source(), maps)
        if key not in self._parts:
            with torch.device("meta"):
                module = call.make().eval()
                inputs = [torch.empty(1, *shape) for shape, _ in maps]
                with FlopCounterMode(display=False) as counter, torch.no_grad():
                    output = run_part(module, inputs)
            taken = footprint(
                call.make,
                [(self.conditions.batch, *shape) for shape, _ in maps],
                precision=self.conditions.precision,
                dtypes=[dtype for _, dtype in maps],
            )
            self._parts[key] = _Part(
                parameters=sum(p.numel() for p in module.parameters()),
                macs=counter.get_total_flops() // 2,
                footprint=taken,
                output=(tuple(output.shape[1:]), taken.dtype),
            )
        return self._parts[key]

    def _overhead(self) -> float:
        """Milliseconds that entering the runtime takes, whatever the network: paid once, and not once per part."""
        if OVERHEAD not in self.profile.parts:
            onnx = to_onnx_fast(nn.Hardtanh(), (torch.rand(1, 1),))
            self.profile.parts[OVERHEAD] = latency(onnx, threads=self.conditions.threads, seconds=0.1).quartile_low_ms
        return self.profile.parts[OVERHEAD]

    def _milliseconds(self, call: Call, shapes: tuple[Shape, ...], part: _Part) -> float:
        """Milliseconds that one part adds to a network.

        A part that keeps the shape is timed as a chain of ``CHAIN``, so that what happens at the ends of a file (layout
        changes, copies) weighs as little as it does in a network.
        """
        key = f"{' '.join(call.source().split())} @ {' '.join('x'.join(map(str, shape)) for shape in shapes)}"
        if key not in self.profile.parts:
            chain = CHAIN if shapes == (part.output[0],) else 1
            inputs = [torch.rand(1, *shape) for shape in shapes]
            module = nn.Sequential(*(call.make() for _ in range(chain))) if chain > 1 else call.make()
            onnx = to_onnx_fast(module, (inputs[0],) if len(inputs) == 1 else (inputs[:-1], inputs[-1]))
            timed = latency(onnx, threads=self.conditions.threads, seconds=0.08)
            self.profile.parts[key] = max(0.0, timed.quartile_low_ms - self._overhead()) / chain
        return self.profile.parts[key]
