"""Options read off a dataclass: one description for the command line, recipes and Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from medsearch.core.config import Node
from medsearch.core.errors import MedsearchError, UsageError
from medsearch.core.options import option, options_of
from medsearch.core.units import parse_seconds


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every kind of option, and a field that is none."""

    name: str | None = option(None, "what it is called")
    kind: str = option("a", "one of two", choices=("a", "b"))
    many_things: int = option(3, "how many", example="N")
    seed: int = option(0, "of numbers", least=0)
    share: float = option(0.5, "how much", least=0)
    time: float | None = option(None, "how long", parse=parse_seconds, example="10m")
    really: bool = option(False, "whether")
    other: dict[str, Any] = field(default_factory=dict)


OPTIONS = options_of(Config)


def of_python(name: str, value: Any) -> Any:
    return OPTIONS[name].of_node(Node(value, name, error=UsageError))


def test_options_are_the_fields_that_are_marked_with_what_is_said_of_them() -> None:
    assert list(OPTIONS) == ["name", "kind", "many_things", "seed", "share", "time", "really"]
    assert {one.kind for one in OPTIONS.values()} == {str, int, float, bool}
    assert (OPTIONS["many_things"].flag, OPTIONS["many_things"].about) == ("--many-things", "how many")
    assert (OPTIONS["time"].kind, OPTIONS["time"].example) == (float, "10m")
    assert Config() == Config(name=None, many_things=3)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("name", "3", "3"), ("kind", "b", "b"), ("many_things", "7", 7), ("share", "0.25", 0.25), ("time", "2m", 120.0)],
)
def test_text_of_the_command_line_and_values_of_python_are_the_same(name: str, text: str, value: Any) -> None:
    assert OPTIONS[name].of_text(text) == of_python(name, value) == value


def test_a_quantity_is_text_with_its_unit_or_a_number() -> None:
    assert of_python("time", "1h") == of_python("time", 3600) == 3600.0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("many_things", "few", "--many-things: expected a whole number, got 'few'.\n  Like: --many-things 3"),
        ("many_things", "2.5", "--many-things: expected a whole number, got '2.5'"),
        ("many_things", "0", "--many-things: expected a whole number of at least 1"),
        ("share", "much", "--share: expected a number, got 'much'"),
        ("time", "soon", "--time: expected a time, got 'soon'"),
        ("kind", "c", "--kind: "),
    ],
)
def test_text_that_cannot_be_read_is_refused_by_its_flag(name: str, text: str, message: str) -> None:
    with pytest.raises(MedsearchError) as refused:
        OPTIONS[name].of_text(text)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 3),
        ("many_things", True),
        ("many_things", 2.5),
        ("share", -0.1),
        ("time", -1),
        ("really", 1),
        ("kind", 1),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name}: "):
        of_python(name, value)


def test_zero_counts_where_it_is_allowed() -> None:
    assert OPTIONS["seed"].of_text("0") == 0 and of_python("share", 0) == 0
