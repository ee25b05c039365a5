"""Times of parts: read off the profile where they follow from it, in the pace that the profile began with."""

from __future__ import annotations

from pathlib import Path

from medsearch.backbones import Call, Residual
from medsearch.blocks import CHANNELS
from medsearch.measure.device import Profile
from medsearch.measure.table import Timing
from medsearch.measure.times import CHAIN, SESSIONS, PartTimes, Probe, yardstick


def probe(dim: int, ratio: int = 2) -> Probe:
    call = Call(Residual, (Call(CHANNELS["mlp"], (dim,), (("dims", 2), ("ratio", ratio))), dim), (("dims", 2),))
    return Probe(call=call, shapes=((dim, 6, 6),), macs=2 * ratio * dim * dim * 36, output=(dim, 6, 6))


def test_what_follows_from_others_is_not_timed(tmp_path: Path) -> None:
    times = PartTimes(Profile(threads=1, folder=tmp_path))
    wanted = [probe(8), probe(8, 3), probe(16), probe(16, 3), probe(12)]
    assert times.missing(wanted) == [probe(8), probe(8, 3), probe(16)]
    times.time(times.missing(wanted))
    assert times.missing(wanted) == []
    known = dict(times.profile.table.timings)
    assert all(times.of(one.spot, one) > 0 for one in wanted)
    assert times.profile.table.timings == known


def test_a_part_that_nothing_is_known_of_is_timed(tmp_path: Path) -> None:
    times = PartTimes(Profile(threads=1, folder=tmp_path))
    one = probe(8)
    ms = times.of(one.spot, one)
    assert times.profile.table.timings[one.spot.key] == Timing(spot=one.spot, ms=ms)
    assert one.chain == CHAIN
    assert times.profile.pace is not None and times.profile.overhead is not None


def test_the_pace_stays_that_of_the_profile(tmp_path: Path) -> None:
    times = PartTimes(Profile(threads=1, folder=tmp_path))
    one = times.latency(yardstick())
    pace = times.profile.pace
    assert pace is not None and 0.5 * pace < one.median_ms < 2 * pace
    assert one.runs == SESSIONS and 0 < one.quartile_low_ms <= one.median_ms <= one.quartile_high_ms
    times.profile.pace = 10 * pace
    assert 5 * pace < times.whole([yardstick()])[0] < 20 * pace


def test_every_file_is_timed_once_in_every_round(tmp_path: Path) -> None:
    times, seen = PartTimes(Profile(threads=1, folder=tmp_path)), []
    found = times.together([probe(8).onnx(), probe(64).onnx()], rounds=3, seen=seen.append)
    assert seen == [1, 2, 3]
    assert [len(spent) for spent in found] == [3, 3]
    assert min(found[1]) > max(found[0]) > 0
