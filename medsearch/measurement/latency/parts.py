"""Milliseconds of network parts on a deployment target: timed where the profile knows too little, else read from it."""

from __future__ import annotations

import hashlib
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial

import torch
from torch import nn

from medsearch.backbones import Call
from medsearch.blocks import CHANNELS, MIXERS
from medsearch.core.children import HERE, ChildDied, Helper, as_death
from medsearch.core.deaths import Deaths
from medsearch.core.errors import RunError, WriteError
from medsearch.measurement.device import Profile
from medsearch.measurement.latency.table import LANES, PartKey, Shape, Timing, part_key
from medsearch.measurement.latency.timer import REFERENCE_SESSIONS, ratio_alone
from medsearch.measurement.latency.timing import Latency
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target

ROUNDS = 3
"""Sessions that a part is timed in."""
SESSIONS = 9
"""Sessions that a whole network is timed in."""
SECONDS, PAUSE = 0.05, 0.1
"""Of a session, and between those of a single file: what else runs on a machine comes and goes within seconds."""
CHANCES = 2
"""Processes that a part may end before it counts as impossible here."""
SAVED = 1.0
"""Seconds between two writings of a profile while sessions are added to it: what a kill may cost."""
Seen = Callable[[int, int], object]


def unseen(done: int, total: int) -> None:
    """Nobody looks."""


CHAIN = 4
"""Copies of a part in the file that is timed: what happens at a file's ends then weighs as little as in a network."""


@dataclass(frozen=True, kw_only=True)
class PartBenchmark:
    """A part on maps of these shapes (C, *S), to be timed.

    Args:
        call: makes it.
        shapes: of its inputs; several are the stage features and the image of a head.
        macs: its multiply-adds.
        output: shape of its output.
        lanes: see :func:`~medsearch.measurement.latency.table.part_key`.
    """

    call: Call
    shapes: tuple[Shape, ...]
    macs: int
    output: Shape
    lanes: int = LANES

    @property
    def part_key(self) -> PartKey:
        """Where it stands in a table."""
        return part_key(self.call, self.shapes, macs=self.macs, outputs=_count(self.output), lanes=self.lanes)

    @property
    def chain(self) -> int:
        """How many copies are timed behind each other: one where the output has another shape than the input."""
        return CHAIN if self.shapes == (self.output,) else 1

    def artifact(self, target: str = DEFAULT) -> bytes:
        """The file that is timed."""
        inputs = [torch.rand(1, *shape) for shape in self.shapes]
        module = nn.Sequential(*(self.call.make() for _ in range(self.chain))) if self.chain > 1 else self.call.make()
        return make_target(target).export_fast(module, (inputs[0],) if len(inputs) == 1 else (inputs[:-1], inputs[-1]))


class PartTimes:
    """What parts add to the latency of a network on one device.

    Args:
        profile: the device's; timings that are made are added to it.
        helper: exports what is timed.
        deaths: parts that ended the process that exported or timed them: such a part takes endless time.

    Attributes:
        keep: saves the profile while it is added to; by default a cache that cannot be written is passed over.
    """

    def __init__(self, profile: Profile, *, helper: Helper = HERE, deaths: Deaths | None = None) -> None:
        self.profile, self.helper = profile, helper
        self.deaths = deaths or Deaths("")
        self.keep: Callable[..., object] = self._keep
        self._known: dict[str, float] = {}

    def _keep(self, *, every: float) -> None:
        with suppress(WriteError):
            self.profile.save(every=every)

    @property
    def pace(self) -> float:
        """Milliseconds of the reference workload here, timed once for a profile; endless where nothing runs it."""
        key = "the reference workload"
        while self.profile.pace is None and not self._hopeless(key):
            try:
                self.profile.pace = self._pace()
            except (ChildDied, RunError) as problem:
                self.deaths.record(as_death(problem, "timing"), key)
        return math.inf if self.profile.pace is None else self.profile.pace

    def known(self, place: PartKey) -> float | None:
        """Milliseconds of a part as timed, or as follows from others; None where it would have to be timed.

        Endless for a part that the target or its exporter has died of.
        """
        return math.inf if self._hopeless(place.key) else self.profile.table.find(place)

    @property
    def overhead(self) -> float:
        """Milliseconds that entering the runtime takes, whatever the network: paid once, and not once per part."""
        if self.profile.overhead is None:
            self.profile.overhead = self.whole([self.helper.call(_least, self.profile.target, doing="exporting")])[0]
        return self.profile.overhead

    def of(self, place: PartKey, benchmark: PartBenchmark) -> float:
        """Milliseconds of a part: as timed, as follows from others, or timed now; ``place`` is ``benchmark.part_key``.

        Endless for a part that the target or its exporter has died of.
        """
        if place.key not in self._known:
            found = self.profile.table.find(place)
            self._known[place.key] = self.time([benchmark])[place.key] if found is None else found
        return self._known[place.key]

    def missing(self, benchmarks: Iterable[PartBenchmark]) -> list[PartBenchmark]:
        """Those of ``benchmarks`` that must be timed before the rest follows, in the order given."""
        table, wanted = self.profile.table.copy(), []
        for benchmark in benchmarks:
            place = benchmark.part_key
            if table.find(place) is None and not self._hopeless(place.key):
                table.add(Timing(part_key=place, ms=place.work * 1e-6))
                wanted.append(benchmark)
        return wanted

    def time(
        self, benchmarks: Sequence[PartBenchmark], *, rounds: int = ROUNDS, seen: Seen = unseen
    ) -> dict[str, float]:
        """Time ``benchmarks`` and enter them in the profile; returns milliseconds by key.

        Every session is kept as it ends, so that one who is interrupted goes on from there.

        Args:
            benchmarks: what to time.
            rounds: sessions of each; their median counts.
            seen: told how many sessions are done, and of how many.
        """
        overhead, found = self.overhead, {}
        keys = [benchmark.part_key.key for benchmark in benchmarks]
        files = self._exported(benchmarks, keys)
        spent = self.together(files, rounds=rounds, keys=keys, seen=seen)
        for benchmark, key, values in zip(benchmarks, keys, spent, strict=True):
            found[key] = max(0.0, statistics.median(values) - overhead) / benchmark.chain
            if math.isfinite(found[key]):
                self.profile.table.add(Timing(part_key=benchmark.part_key, ms=found[key]))
        self._known.clear()
        return found

    def _exported(self, benchmarks: Sequence[PartBenchmark], keys: Sequence[str]) -> list[bytes]:
        """The files of ``benchmarks``; an empty one where the exporter ends its process, or raises, twice."""
        found = dict.fromkeys(range(len(benchmarks)), b"")
        export = partial(PartBenchmark.artifact, target=self.profile.target)
        for _ in range(CHANCES):
            left = [i for i, file in found.items() if not file and not self._hopeless(keys[i])]
            made = self.helper.each(export, [benchmarks[i] for i in left], doing="exporting a part")
            for i, file in zip(left, made, strict=True):
                if isinstance(file, Exception):
                    self.deaths.record(as_death(file, "exporting a part"), keys[i])
                else:
                    found[i] = file
        return list(found.values())

    def _hopeless(self, key: str) -> bool:
        """Whether a part has ended so many processes that it is given no other."""
        return self.deaths.times(key) >= CHANCES

    def whole(
        self, files: Sequence[bytes], *, rounds: int = SESSIONS, keys: Sequence[str] = (), seen: Seen = unseen
    ) -> list[float]:
        """Milliseconds of whole files, the medians of :meth:`together`."""
        return [statistics.median(spent) for spent in self.together(files, rounds=rounds, keys=keys, seen=seen)]

    def latency(self, artifact: bytes) -> Latency:
        """The same of a single file, with quartiles; its sessions are some time apart."""
        return Latency.of(self.together([artifact], pause=PAUSE)[0])

    def together(
        self,
        files: Sequence[bytes],
        *,
        rounds: int = SESSIONS,
        pause: float = 0.0,
        keys: Sequence[str] = (),
        seen: Seen = unseen,
    ) -> list[list[float]]:
        """Milliseconds of each file in each round, at the pace the device had when its profile was begun.

        In every round all are timed once, in random order, each in a session of its own beside a :func:`reference`, so
        that neither a slow moment nor a slow minute of the machine counts.  A file that ends the process twice, or that
        the target refuses, takes endless time, and so does an empty one.

        Args:
            files: artifacts of the profile's target.
            rounds: sessions of each.
            pause: seconds between rounds.
            keys: under which the sessions of each file are kept until all have ended, and its death for ever.
            seen: told how many sessions are done, and of how many.
        """
        rng = random.Random(0)
        kept = self.profile.sessions
        spent = [kept.setdefault(key, []) for key in keys] if keys else [[] for _ in files]
        done, total = sum(map(len, spent)), rounds * len(files)
        for turn in range(rounds):
            for index in rng.sample(range(len(files)), len(files)):
                if len(spent[index]) > turn:
                    continue
                spent[index].append(self._once(files[index], keys[index] if keys else ""))
                done += 1
                seen(done, total)
                self.keep(every=SAVED)
            time.sleep(pause)
        for key in keys:
            kept.pop(key, None)
        return spent

    def _once(self, artifact: bytes, key: str) -> float:
        """One session; a file that ends its process, or is refused, gets a second chance: it may have been killed."""
        key = key or f"file {hashlib.sha256(artifact).hexdigest()[:10]}"
        while artifact and not self._hopeless(key):
            try:
                return self._beside(artifact)
            except (ChildDied, RunError) as problem:
                self.deaths.record(as_death(problem, "timing"), key)
        return math.inf

    def _beside(self, artifact: bytes) -> float:
        ratio, pace = self._against_reference(artifact)
        if self.profile.pace is None:
            self.profile.pace = min(pace, self._pace())
        return ratio * self.profile.pace

    def _pace(self) -> float:
        """Milliseconds of the reference workload, the least of some sessions that each have it elsewhere in memory."""
        return min(self._against_reference(self._reference_workload)[1] for _ in range(REFERENCE_SESSIONS))

    def _against_reference(self, artifact: bytes) -> tuple[float, float]:
        """:func:`~medsearch.measurement.latency.timer.ratio_alone` beside the reference workload."""
        threads, target = self.profile.device["threads"], self.profile.target
        mark = self._reference_workload
        return ratio_alone(artifact, mark, threads=threads, seconds=SECONDS, target=target)

    @cached_property
    def _reference_workload(self) -> bytes:
        return bytes(self.helper.call(reference, self.profile.target, doing="exporting the reference workload"))


def _least(target: str) -> bytes:
    """The file that does next to nothing."""
    return make_target(target).export_fast(nn.Hardtanh(), (torch.rand(1, 1),))


@cache
def reference(target: str = DEFAULT) -> bytes:
    """A small file whose time says how fast the machine is just now: a perceptron with a depthwise filter, twice.

    Timings are ratios to it, taken in turns with it, so that they do not drift when the machine does.
    """
    torch_state = torch.get_rng_state()
    parts = [CHANNELS["conv_mlp"](48, dims=2), MIXERS["window_attention"](48, dims=2, window=8)]
    torch.set_rng_state(torch_state)
    return make_target(target).export_fast(nn.Sequential(*parts), (torch.rand(1, 48, 16, 16),))


def _count(shape: Shape) -> int:
    total = 1
    for side in shape:
        total *= side
    return total
