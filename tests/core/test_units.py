import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsearch.core import units
from medsearch.core.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("512MB", 512 * 10**6),
        ("0.5 gb", 5 * 10**8),
        (" 512MiB ", 512 * 2**20),
        ("2TiB", 2**41),
        ("1e3 kB", 10**6),
        ("7b", 7),
    ],
)
def test_bytes(text, size):
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "time"),
    [
        *[("20ms", 0.02), ("0.02s", 0.02), ("10m", 600), ("1.5h", 5400), ("5us", 5e-6)],
        *[("1h30m", 5400), ("2m30s", 150), ("1h 5s", 3605), ("1H30min15s", 5415), ("1h05m", 3900)],
    ],
)
def test_seconds(text, time):
    assert math.isclose(units.parse_seconds(text), time)


@pytest.mark.parametrize(
    ("text", "count"), [("5M", 5 * 10**6), ("1.2G", 12 * 10**8), ("300k", 300_000), ("1000", 1000)]
)
def test_counts(text, count):
    assert units.parse_count(text) == count


@pytest.mark.parametrize("parse", [units.parse_bytes, units.parse_seconds, units.parse_count])
@pytest.mark.parametrize(
    "text",
    ["", "abc", "1 banana", "-1", "0", "nan", "NaN", "inf", "1e999", "1.2.3", "--1", "1GB 2", "1,5", "½", "0x10"],
)
def test_anything_else_is_refused_with_an_example(parse, text):
    with pytest.raises(BudgetError, match="Write it like") as caught:
        parse(text, where="--budget")
    assert caught.value.where == "--budget"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (units.parse_bytes, "-1GB"),
        (units.parse_bytes, "0GB"),
        (units.parse_bytes, "1e400GB"),
        (units.parse_bytes, "1e300TB"),
        (units.parse_bytes, "0.4b"),
        (units.parse_bytes, "1e-12 GB"),
        (units.parse_seconds, "-20ms"),
        (units.parse_seconds, "0s"),
        (units.parse_seconds, "1e308h"),
        (units.parse_count, "0.2"),
        (units.parse_count, "-5M"),
        (units.parse_count, "1e307G"),
    ],
)
def test_nothing_at_all_less_than_nothing_and_more_than_a_number_holds_are_refused(parse, text):
    with pytest.raises(BudgetError, match="above zero.*\n.*Write it like"):
        parse(text)


@pytest.mark.parametrize("text", ["0h0m", "1h90m", "1h30", "1m1h", "5m3ms", "h30m", "1h-5m"])
def test_parts_of_a_time_fall_in_order_and_below_the_next_larger_one(text):
    with pytest.raises(BudgetError, match="Write it like 20ms, 10m or 1h30m"):
        units.parse_seconds(text)


def test_a_size_or_time_without_a_unit_is_refused():
    with pytest.raises(BudgetError, match="units: b, kb, mb, gb"):
        units.parse_bytes("1000")
    with pytest.raises(BudgetError, match="units: us, ms, s"):
        units.parse_seconds("20")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (units.format_bytes(1.25e9), "1.25 GB"),
        (units.format_bytes(12_345), "12.3 kB"),
        (units.format_bytes(999), "999 B"),
        (units.format_count(1_250_000), "1.25 M"),
        (units.format_count(12), "12"),
        (units.format_seconds(0.02), "20 ms"),
        (units.format_seconds(3.21), "3.21 s"),
        (units.format_seconds(245), "4 min 05 s"),
    ],
)
def test_shown_with_three_digits(text, shown):
    assert text == shown


@given(st.integers(min_value=1, max_value=10**13))
def test_what_is_shown_reads_back_within_rounding(size):
    assert math.isclose(units.parse_bytes(units.format_bytes(size)), size, rel_tol=5.01e-3)
    assert math.isclose(units.parse_count(units.format_count(size)), size, rel_tol=5.01e-3)


@given(st.floats(min_value=0.001, max_value=999_999), st.sampled_from(sorted(units._BYTES)), st.booleans())
def test_a_size_is_its_number_times_its_unit_however_it_is_written(number, unit, spaced):
    wanted = number * units._BYTES[unit]
    if wanted < 1:
        return
    text = f" {number!r}{' ' if spaced else ''}{unit.upper()}"
    assert abs(units.parse_bytes(text) - wanted) <= 0.5


@given(st.text(max_size=12))
def test_whatever_is_written_gives_a_number_above_zero_or_an_error_with_an_example(text):
    for parse in (units.parse_bytes, units.parse_seconds, units.parse_count):
        try:
            found = parse(text)
        except BudgetError as problem:
            assert "Write it like" in str(problem)
        else:
            assert 0 < found < math.inf


@given(st.floats(min_value=1e-6, max_value=59.0))
def test_a_time_that_is_shown_reads_back_within_rounding(time):
    assert math.isclose(units.parse_seconds(units.format_seconds(time)), time, rel_tol=5.01e-3)


@pytest.mark.parametrize(
    ("text", "value"), [("5mJ", 5e-3), ("5 MJ", 5e6), ("0.4uJ", 4e-7), ("3J", 3.0), ("1e3 kJ", 1e6)]
)
def test_units_of_other_packages_take_prefixes_whose_case_counts(text, value):
    assert units.parse_si(text, "J", where="x") == pytest.approx(value)


@pytest.mark.parametrize("text", ["5", "5m", "5 mj", "5xJ", "mJ", "0J", "-1J", "1e999J", ""])
def test_other_units_and_no_number_are_refused(text):
    with pytest.raises(BudgetError, match=r"x: expected a number of J"):
        units.parse_si(text, "J", where="x")


@pytest.mark.parametrize(
    ("value", "said"),
    [(5e-3, "5 mJ"), (1234.0, "1.23 kJ"), (0.99996, "1 J"), (3e-15, "0.003 pJ"), (0.0, "0 J"), (float("inf"), "inf J")],
)
def test_prefixes_are_shown_with_three_digits(value, said):
    assert units.format_si(value, "J") == said
