"""The costs of a genotype before anything of it is trained: parts traced and timed once, then added up.

Every distinct part (a residual branch, a downsampling, a stem, a head, at one input size) is made once: its weights
and multiply-adds are counted, its memory traced on fake tensors, its latency measured in ONNX Runtime.  A genotype is
then a sum, and two numbers learned from whole networks correct what the sum cannot see: what the runtime fuses across
parts, and what the allocator adds.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medsearch.backbones import Call, Interface, Plan, plan
from medsearch.export.onnx import to_onnx_fast
from medsearch.measure.budget import Costs
from medsearch.measure.device import Profile
from medsearch.measure.estimate import Estimate
from medsearch.measure.latency import latency
from medsearch.measure.memory import inference_peak, training_peak
from medsearch.measure.step import Loss, StepMemory
from medsearch.measure.trace import run_part
from medsearch.measure.workspace import Workspaces
from medsearch.spaces import Genotype

Shape = tuple[int, ...]

_Map = tuple[Shape, torch.dtype]

OVERHEAD = "an empty call"
CHAIN = 4
GRAPH_BYTES = 4000


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
    output: _Map


class CostModel:
    """Costs of genotypes for one kind of data on one device.

    Args:
        interface: task, channels and outputs.
        conditions: image size, batch, precision, threads.
        profile: the device's latencies; parts that are not in it are measured when they are first met.
        loss: of training; without it, what it takes is not part of the memory.
        inference: whether memory at inference is wanted too, which is traced for itself where training is in bf16.
    """

    def __init__(
        self,
        interface: Interface,
        conditions: Conditions,
        profile: Profile,
        *,
        loss: Loss | None = None,
        inference: bool = False,
    ) -> None:
        self.interface, self.conditions, self.profile = interface, conditions, profile
        other = 3 if conditions.batch == 2 else 2  # batch norms of a single value have no batch 1
        batches = (other if inference else conditions.batch, conditions.batch)
        self.steps = StepMemory(interface, conditions.size, batches=batches, loss=loss, workspaces=Workspaces())
        self.inference = inference
        self.memory_correction = Correction()
        self.latency_correction = Correction()
        self.file_correction = Correction(spread=1.0)
        self._parts: dict[tuple[Call, tuple[_Map, ...]], _Part] = {}
        self._costs: dict[Genotype, Costs] = {}
        self._names: dict[tuple[Call, tuple[Shape, ...]], str] = {}

    def __call__(self, genotype: Genotype) -> Costs:
        """The predicted costs of ``genotype``."""
        if genotype not in self._costs:
            self._costs[genotype] = self._predict(genotype)
        return self._costs[genotype]

    def correct(
        self,
        *,
        memory: Correction | None = None,
        latency: Correction | None = None,
        file: Correction | None = None,
    ) -> None:
        """Take over what whole networks have shown."""
        self.file_correction = file or self.file_correction
        self.memory_correction = memory or self.memory_correction
        self.latency_correction = latency or self.latency_correction
        self._costs.clear()

    def sums(self, genotype: Genotype) -> tuple[float, float]:
        """Memory (bytes) and latency (ms) as the plain sums over parts, before any correction."""
        planned = plan(genotype, self.interface)
        return self._memory(planned), self._latency(list(self._walk(planned)))

    def _latency(self, walk: list[tuple[Call, tuple[_Map, ...], _Part, bool]]) -> float:
        parts = sum(self._milliseconds(call, tuple(shape for shape, _ in maps), part) for call, maps, part, _ in walk)
        return parts + self._overhead()

    def _predict(self, genotype: Genotype) -> Costs:
        planned = plan(genotype, self.interface)
        walk = list(self._walk(planned))
        memory, milliseconds = self._memory(planned), self._latency(walk)
        parameters = sum(part.parameters for _, _, part, _ in walk)
        return Costs(
            parameters=Estimate.exact(parameters, "parameters"),
            macs=Estimate.exact(sum(part.macs for _, _, part, _ in walk), "MAC"),
            memory=self.memory_correction.apply(memory, "bytes"),
            latency=self.latency_correction.apply(milliseconds, "ms"),
            inference=self._inference(planned) if self.inference else None,
            file=self.file_correction.apply(GRAPH_BYTES * len(walk), "bytes").plus(4 * parameters),
        )

    def graph_bytes(self, genotype: Genotype) -> float:
        """Bytes of an ONNX file beside its weights, before any correction: so many for every part."""
        return GRAPH_BYTES * (2 + sum(map(len, plan(genotype, self.interface).stages)))

    def _inference(self, planned: Plan) -> Estimate:
        chain = self.steps.chain(planned, batch=1, precision="fp32")
        return self.memory_correction.apply(inference_peak(chain), "bytes")

    def _walk(self, planned: Plan) -> Iterator[tuple[Call, tuple[_Map, ...], _Part, bool]]:
        """Every part, the maps (C, *S) it is given and whether the head reads its output, in order of the data."""
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

    def _memory(self, planned: Plan) -> float:
        batch, precision = self.conditions.batch, self.conditions.precision
        return training_peak(self.steps.chain(planned, batch=batch, precision=precision))

    def _part(self, call: Call, maps: tuple[_Map, ...]) -> _Part:
        key = (call, maps)
        if key not in self._parts:
            with torch.device("meta"):
                module = call.make().eval()
                inputs = [torch.empty(1, *shape) for shape, _ in maps]
                with FlopCounterMode(display=False) as counter, torch.no_grad():
                    output = run_part(module, inputs)
            self._parts[key] = _Part(
                parameters=sum(p.numel() for p in module.parameters()),
                macs=counter.get_total_flops() // 2,
                output=(tuple(output.shape[1:]), torch.float32),
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
        key = self._names.get((call, shapes)) or self._names.setdefault((call, shapes), _name(call, shapes))
        if key not in self.profile.parts:
            chain = CHAIN if shapes == (part.output[0],) else 1
            inputs = [torch.rand(1, *shape) for shape in shapes]
            module = nn.Sequential(*(call.make() for _ in range(chain))) if chain > 1 else call.make()
            onnx = to_onnx_fast(module, (inputs[0],) if len(inputs) == 1 else (inputs[:-1], inputs[-1]))
            timed = latency(onnx, threads=self.conditions.threads, seconds=0.08)
            self.profile.parts[key] = max(0.0, timed.quartile_low_ms - self._overhead()) / chain
        return self.profile.parts[key]


def _name(call: Call, shapes: tuple[Shape, ...]) -> str:
    """What a part at these sizes is called in a profile."""
    return f"{' '.join(call.source().split())} @ {' '.join('x'.join(map(str, shape)) for shape in shapes)}"
