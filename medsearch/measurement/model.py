"""The costs of a genotype before anything of it is trained: parts traced and timed once, then added up.

Every distinct part (a residual branch, a downsampling, a stem, a head, at one input size) is made once: its weights
and multiply-adds are counted, its memory traced on fake tensors, its latency measured on the deployment target or read
off the table of its device.  A genotype is then a sum, and what whole networks have shown corrects it: what the runtime
fuses across parts, and what the allocator adds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medsearch.backbones import Call, Interface, NetworkPlan, ResidualBlock, plan
from medsearch.core.children import HERE, Helper
from medsearch.core.deaths import Deaths
from medsearch.core.errors import SpaceError
from medsearch.measurement.budget import Costs
from medsearch.measurement.costs import COSTS, Cost, Prediction
from medsearch.measurement.device import Profile
from medsearch.measurement.latency.parts import PartBenchmark, PartTimes, Seen, unseen
from medsearch.measurement.latency.prior import Prior
from medsearch.measurement.latency.table import LANES, PartKey, Shape
from medsearch.measurement.macs import count
from medsearch.measurement.memory.operators import isolated
from medsearch.measurement.memory.peak import inference_peak, training_peak
from medsearch.measurement.memory.step import Loss, StepMemory, this_device
from medsearch.measurement.memory.trace import run_part
from medsearch.measurement.memory.workspace import Workspaces, run_operator
from medsearch.spaces import Genotype

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


class Milliseconds(NamedTuple):
    """What the parts of a network add up to in time.

    Args:
        timed: of parts that were timed, or follow from those; entering the runtime included.
        untimed: of the others, by the prior; ``low`` and ``high`` are the ends of its interval.
        low, high: of the untimed ones.
        features: what the sum does not say about the network, for the residual model.
    """

    timed: float
    untimed: float
    low: float
    high: float
    features: tuple[float, ...]

    @property
    def total(self) -> float:
        """Milliseconds of all parts."""
        return self.timed + self.untimed


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
        names: of the costs that are predicted; None for all that can be.
        loss: of training; without it, what it takes is not part of the memory.
        any_batch: whether steps of other batches than that of the conditions are wanted too.
        helper: runs and exports what may end the process that does.
        deaths: what did so before.
        prior: what parts take that nothing is known of; None times them when they are first met.
    """

    def __init__(
        self,
        interface: Interface,
        conditions: Conditions,
        profile: Profile,
        *,
        names: Collection[str] | None = None,
        loss: Loss | None = None,
        any_batch: bool = False,
        helper: Helper = HERE,
        deaths: Deaths | None = None,
        prior: Prior | None = None,
    ) -> None:
        self.prior = prior
        self.interface, self.conditions, self.profile = interface, conditions, profile
        other = 3 if conditions.batch == 2 else 2  # batch norms of a single value have no batch 1
        device = this_device()
        batches = (other if any_batch else conditions.batch, conditions.batch)
        self.workspaces = Workspaces(device.kind, measure=isolated(run_operator, helper, deaths or Deaths("")))
        self.steps = StepMemory(
            interface, conditions.size, batches=batches, loss=loss, workspaces=self.workspaces, device=device
        )
        self.any_batch = any_batch
        self.rows: dict[str, Cost] = {name: COSTS[name]() for name in (COSTS if names is None else names)}
        self.corrections: dict[str, Any] = {name: row.correction() for name, row in self.rows.items()}
        self.times = PartTimes(profile, helper=helper, deaths=deaths)
        self._parts: dict[tuple[Call, tuple[Shape, ...]], _PartCost] = {}
        self._walks: dict[Genotype, list[_PartCost]] = {}
        self._costs: dict[Genotype, Costs] = {}

    def __call__(self, genotype: Genotype) -> Costs:
        """The predicted costs of ``genotype``."""
        if genotype not in self._costs:
            self._costs[genotype] = self._predict(genotype, self.rows)
        return self._costs[genotype]

    def train_in(self, precision: str) -> None:
        """Predict for training in another precision from now on."""
        self.conditions = replace(self.conditions, precision=precision)
        self._costs.clear()

    def correct(self, **corrections: Any) -> None:
        """Take over what whole networks have shown, by the name of the cost."""
        self.corrections |= corrections
        self._costs.clear()

    @property
    def correctable(self) -> list[str]:
        """The names of those predicted costs that whole networks can correct."""
        return [name for name, correction in self.corrections.items() if correction is not None]

    def sums(self, genotype: Genotype) -> Sums:
        """The plain sums over parts, before any correction."""
        spent = self.milliseconds(genotype)
        return Sums(self.step_bytes(genotype), spent.total, spent.features)

    def parameters(self, genotype: Genotype) -> int:
        """Number of weights."""
        return sum(part.parameters for part in self._parts_of(genotype))

    def macs(self, genotype: Genotype) -> int:
        """Multiply-adds of one image."""
        return sum(part.macs for part in self._parts_of(genotype))

    def parts_count(self, genotype: Genotype) -> int:
        """How many parts a network has, stem and head included."""
        return len(self._parts_of(genotype))

    def step_bytes(self, genotype: Genotype) -> float:
        """Peak bytes of a training step, before any correction."""
        batch, precision = self.conditions.batch, self.conditions.precision
        return training_peak(self.steps.chain(genotype, batch=batch, precision=precision))

    def forward_bytes(self, genotype: Genotype) -> int:
        """Peak bytes of a forward pass of one image in fp32, before any correction."""
        return inference_peak(self._single.chain(genotype, batch=1, precision="fp32"))

    @cached_property
    def _single(self) -> StepMemory:
        """Footprints that are known for a single image."""
        if self.any_batch:
            return self.steps
        return StepMemory(self.interface, self.conditions.size, workspaces=self.workspaces, device=self.steps.device)

    def milliseconds(self, genotype: Genotype) -> Milliseconds:
        """What the parts take; all of them are timed, where nothing else is known of one and there is no prior."""
        return self._latency(self._parts_of(genotype))

    def untimed(self, genotypes: Iterable[Genotype]) -> list[PartBenchmark]:
        """What must be timed before the latencies of these networks follow from timings alone, in order."""
        return self.times.missing(benchmark for genotype in genotypes for benchmark in self.benchmarks(genotype))

    def time_parts(self, genotypes: Iterable[Genotype], *, seen: Seen = unseen) -> None:
        """Time what is missing, and predict anew; ``seen`` as for :meth:`PartTimes.time`."""
        if missing := self.untimed(genotypes):
            self.times.time(missing, seen=seen)
            self._costs.clear()

    def benchmarks(self, genotype: Genotype) -> list[PartBenchmark]:
        """The parts of ``genotype`` as they are timed."""
        return [part.benchmark for part in self._parts_of(genotype)]

    def _parts_of(self, genotype: Genotype) -> list[_PartCost]:
        if genotype not in self._walks:
            self._walks[genotype] = list(self._walk(plan(genotype, self.interface)))
        return self._walks[genotype]

    def _latency(self, walk: Iterable[_PartCost]) -> Milliseconds:
        by_kind = dict.fromkeys(KINDS, 0.0)
        untimed = low = high = 0.0
        for part in walk:
            ms = self.times.known(part.place)
            if ms is None and self.prior is not None:
                runs, doubt = self.prior.of(part.place, part.kind)
                ms = runs * self.times.pace
                untimed, low, high = untimed + ms, low + ms * math.exp(-doubt), high + ms * math.exp(doubt)
            by_kind[part.kind] += self.times.of(part.place, part.benchmark) if ms is None else ms
        parts = sum(by_kind.values())
        if math.isinf(parts):
            return Milliseconds(parts, 0.0, 0.0, 0.0, (0.0,) * len(KINDS))
        shares = [by_kind[kind] / max(parts, 1e-9) for kind in KINDS[1:]]
        features = (*shares, math.log(max(parts, 1e-6)) / 3)
        return Milliseconds(parts - untimed + self._overhead, untimed, low, high, features)

    @property
    def _overhead(self) -> float:
        """Milliseconds that entering the runtime takes: by the prior where it was not timed."""
        if self.prior is None or self.profile.overhead is not None:
            return self.times.overhead
        return self.prior.overhead * self.times.pace

    def some(self, genotype: Genotype, names: Collection[str]) -> Costs:
        """Those of the predicted costs that are called ``names``; nothing is looked at for the others."""
        if genotype in self._costs:
            known = self._costs[genotype]
            return Costs(**{name: known[name] for name in known if name in names})
        return self._predict(genotype, {name: row for name, row in self.rows.items() if name in names})

    def _predict(self, genotype: Genotype, rows: Mapping[str, Cost]) -> Costs:
        parameters, macs = self.parameters(genotype), self.macs(genotype)
        found = {}
        for name, row in rows.items():
            correction = self.corrections[name]
            asked = Prediction(genotype=genotype, model=self, parameters=parameters, macs=macs, correction=correction)
            if (estimate := row.predict(asked)) is not None:
                found[name] = estimate
        return Costs(**found)

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
