"""What follows from timings of some parts for others: powers of the work, shared by the variants of a group."""

from __future__ import annotations

import json

import pytest

from medsearch.backbones import Call, ResidualBlock
from medsearch.blocks import CHANNELS, MIXERS
from medsearch.measurement.latency.table import PartKey, Table, Timing, from_data, part_key, to_data


def place(variant: str, work: float, group: str = "g") -> PartKey:
    return PartKey(key=f"{variant} {work}", group=group, variant=variant, work=work)


def timing(variant: str, work: float, ms: float, group: str = "g") -> Timing:
    return Timing(part_key=place(variant, work, group), ms=ms)


def test_what_was_timed_is_as_it_was_timed() -> None:
    table = Table([timing("a", 100, 1.0), timing("a", 400, 3.0), timing("a", 200, 9.0)])
    assert table.find(place("a", 200)) == 9.0
    table.add(timing("a", 200, 1.5))
    assert table.find(place("a", 200)) == 1.5


def test_between_two_timings_the_time_is_a_power_of_the_work() -> None:
    # From 100 to 400 the time doubles: power 1/2.  At 225 that is 1.0 * (225 / 100)^(1/2) = 1.5.
    table = Table([timing("a", 100, 1.0), timing("a", 400, 2.0)])
    assert table.find(place("a", 225)) == pytest.approx(1.5)
    # Up to half as much beyond, it goes on; further away it must be timed.
    assert table.find(place("a", 576)) == pytest.approx(2.4)
    assert table.find(place("a", 601)) is None
    assert table.find(place("a", 66)) is None


def test_a_variant_timed_once_takes_the_power_of_its_group() -> None:
    table = Table([timing("a", 100, 1.0), timing("a", 400, 2.0), timing("b", 100, 5.0)])
    assert table.find(place("b", 400)) == pytest.approx(10.0)
    table.add(timing("c", 100, 1.0, group="other"))
    assert table.find(place("c", 400, group="other")) is None
    assert table.find(place("d", 100)) is None


def test_a_power_beyond_belief_is_not_believed() -> None:
    # 4 times the work in a hundredth of the time: timed in noise.  The smallest power believed is 0.2.
    table = Table([timing("a", 100, 1.0), timing("a", 400, 0.01)])
    assert table.find(place("a", 200)) == pytest.approx(2**0.2)


def test_a_spot_tells_widths_from_knobs_and_maps() -> None:
    def branch(dim: int, **knobs: int) -> Call:
        mixer = Call(MIXERS["dwconv"], (dim,), (("dims", 2), *knobs.items()))
        return Call(ResidualBlock, (dim,), (("dims", 2), ("mixer", mixer)))

    narrow, wide = (part_key(branch(dim), [(dim, 8, 8)], macs=9 * dim * 64, outputs=dim * 64) for dim in (16, 32))
    assert narrow.variant == wide.variant and narrow.key != wide.key
    assert narrow.work == 9 * 16 * 64 + 2 * 16 * 64
    slow = part_key(branch(24), [(24, 8, 8)], macs=1, outputs=1, lanes=8)
    assert (slow.group, slow.variant == narrow.variant) == (narrow.group, False)
    other = part_key(branch(16, kernel=7), [(16, 8, 8)], macs=1, outputs=1)
    assert (other.group, other.variant == narrow.variant) == (narrow.group, False)
    assert part_key(branch(16), [(16, 4, 4)], macs=1, outputs=1).group != narrow.group
    channel = Call(CHANNELS["mlp"], (16,), (("dims", 2),))
    mlp = part_key(Call(ResidualBlock, (16,), (("dims", 2), ("channel", channel))), [(16, 8, 8)], macs=1, outputs=1)
    assert mlp.group != narrow.group


def test_a_table_is_rows_of_json() -> None:
    table = Table([timing("a", 100.0, 1.0), timing("b", 400.0, 2.0)])
    assert from_data(json.loads(json.dumps(to_data(table)))).timings == table.timings
    for wrong in (3, [3], [{"key": "a"}], [{**to_data(table)[0], "ms": -1.0}], [{**to_data(table)[0], "work": "x"}]):
        with pytest.raises(ValueError, match="expected"):
            from_data(wrong)
