"""Times of parts: read off the profile where they follow from it, in the pace that the profile began with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from medsearch.backbones import Call, ResidualBlock
from medsearch.blocks import CHANNELS
from medsearch.core import plugins
from medsearch.core.children import ChildDied
from medsearch.core.deaths import Deaths
from medsearch.measurement.device import Profile
from medsearch.measurement.latency import timer
from medsearch.measurement.latency.parts import CHAIN, SESSIONS, PartBenchmark, PartTimes, reference
from medsearch.measurement.latency.table import Timing


def benchmark(dim: int, ratio: int = 2) -> PartBenchmark:
    mlp = Call(CHANNELS["mlp"], (dim,), (("dims", 2), ("ratio", ratio)))
    call = Call(ResidualBlock, (dim,), (("dims", 2), ("channel", mlp)))
    return PartBenchmark(call=call, shapes=((dim, 6, 6),), macs=2 * ratio * dim * dim * 36, output=(dim, 6, 6))


def test_what_follows_from_others_is_not_timed(tmp_path: Path) -> None:
    times = PartTimes(Profile(threads=1, folder=tmp_path))
    wanted = [benchmark(8), benchmark(8, 3), benchmark(16), benchmark(16, 3), benchmark(12)]
    assert times.missing(wanted) == [benchmark(8), benchmark(8, 3), benchmark(16)]
    times.time(times.missing(wanted))
    assert times.missing(wanted) == []
    known = dict(times.profile.table.timings)
    assert all(times.of(one.part_key, one) > 0 for one in wanted)
    assert times.profile.table.timings == known


def test_a_part_that_nothing_is_known_of_is_timed(tmp_path: Path) -> None:
    times = PartTimes(Profile(threads=1, folder=tmp_path))
    one = benchmark(8)
    ms = times.of(one.part_key, one)
    assert times.profile.table.timings[one.part_key.key] == Timing(part_key=one.part_key, ms=ms)
    assert one.chain == CHAIN
    assert times.profile.pace is not None and times.profile.overhead is not None


def test_the_pace_stays_that_of_the_profile(tmp_path: Path) -> None:
    times = PartTimes(Profile(threads=1, folder=tmp_path))
    one = times.latency(reference())
    pace = times.profile.pace
    assert pace is not None and 0.5 * pace < one.median_ms < 2 * pace
    assert one.runs == SESSIONS and 0 < one.quartile_low_ms <= one.median_ms <= one.quartile_high_ms
    times.profile.pace = 10 * pace
    assert 5 * pace < times.whole([reference()])[0] < 20 * pace


def test_every_file_is_timed_once_in_every_round(tmp_path: Path) -> None:
    times, seen = PartTimes(Profile(threads=1, folder=tmp_path)), []
    found = times.together(
        [benchmark(8).artifact(), benchmark(64).artifact()], rounds=3, seen=lambda *done: seen.append(done)
    )
    assert seen == [(done, 6) for done in range(1, 7)]
    assert [len(spent) for spent in found] == [3, 3]
    assert min(found[1]) > max(found[0]) > 0


class Interrupted(Exception):
    """Somebody has had enough."""


def test_sessions_that_ended_are_there_after_an_interruption(tmp_path: Path) -> None:
    """Interrupted after four of six sessions, a new start of the program times two, and counts on from four."""

    def enough(done: int, total: int) -> None:
        if done == 4:
            times.profile.save()
            raise Interrupted

    times = PartTimes(Profile(threads=1, folder=tmp_path))
    benchmarks = [benchmark(8), benchmark(64)]
    with pytest.raises(Interrupted):
        times.time(benchmarks, rounds=3, seen=enough)
    kept = Profile(threads=1, folder=tmp_path)
    assert kept.sessions == times.profile.sessions
    assert sorted(map(len, kept.sessions.values())) == [2, 2]

    seen: list[int] = []
    again = PartTimes(kept)
    found = again.time(benchmarks, rounds=3, seen=lambda done, total: seen.append(done))
    assert seen == [5, 6]
    assert set(found) == {each.part_key.key for each in benchmarks} == set(kept.table.timings)
    assert kept.sessions == {}


class Dying:
    """Exports nothing, as a helper does whose process ends each time."""

    def __init__(self) -> None:
        self.asked = 0

    def call(self, function: Any, *args: Any, **named: Any) -> Any:
        return function(*args)

    def each(self, function: Any, items: Any, **named: Any) -> list[Any]:
        items = list(items)
        self.asked += len(items)
        return [ChildDied("exporting a part", "SIGSEGV") for _ in items]


def test_a_part_whose_export_dies_takes_endless_time_and_is_not_asked_for_again(tmp_path: Path) -> None:
    helper, deaths = Dying(), Deaths("here", run=tmp_path / "deaths.jsonl")
    times = PartTimes(Profile(threads=1, folder=tmp_path), helper=helper, deaths=deaths)
    assert times.time([benchmark(8)], rounds=1) == {benchmark(8).part_key.key: math.inf}
    assert times.of(benchmark(8).part_key, benchmark(8)) == math.inf
    assert times.missing([benchmark(8)]) == []
    assert helper.asked == 2, "somebody may have killed the first"
    assert times.profile.table.find(benchmark(8).part_key) is None
    assert [death.what for death in Deaths("here", run=tmp_path / "deaths.jsonl").of_run] == [
        benchmark(8).part_key.key
    ] * 2


def test_a_file_that_ends_the_runtime_twice_takes_endless_time_and_the_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_named", [])
    timer.restart()
    plugins.use(["deadly"])
    try:
        profile = Profile(threads=1, target="deadly", folder=tmp_path)
        profile.pace = 1.0
        times = PartTimes(profile)
        good, bad = times.together([b"good", b"bad"], rounds=2)
        assert all(map(math.isfinite, good))
        assert bad == [math.inf] * 2
        assert [(death.how, death.doing) for death in times.deaths.of_run] == [("SIGFPE", "timing in deadly")] * 2
        assert times.latency(b"bad").median_ms == math.inf
    finally:
        timer.restart()


DEADLY = """
import os, signal, time
from medsearch.targets import TARGETS

@TARGETS.add("deadly")
class Deadly:
    suffix = ".deadly"
    def __init__(self, threads): self.clock = time.perf_counter
    def describe(self): return {"runtime": "deadly 1"}
    def export_fast(self, module, inputs): return b"reference"
    def runner(self, model):
        if model == b"bad":
            os.kill(os.getpid(), signal.SIGFPE)
        return lambda: time.sleep(0.0001)
"""
