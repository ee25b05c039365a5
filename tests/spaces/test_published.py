"""The numbers of a published architecture: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from medsearch.core.errors import SpaceError
from medsearch.spaces.published import Published, read_published

GIVEN: dict[str, Any] = {"source": "arXiv:1", "status": "exact", "size": [224, 224]}


def test_what_is_left_out_is_not_expected() -> None:
    without = {"class token": 384, "its position": 384}
    given = {**GIVEN, "status": "exact but", "differs": "class token", "parameters": 10_000, "without": without}
    found = read_published({**given, "macs": "4.5G"}, "p", 2)
    assert (found.expected, found.macs, found.size) == (10_000 - 768, 4_500_000_000, (224, 224))
    assert read_published(GIVEN, "p", 2) == Published(source="arXiv:1", status="exact", size=(224, 224))
    assert read_published(GIVEN, "p", 2).expected is None


@pytest.mark.parametrize(
    ("change", "where", "problem"),
    [
        ({"parameter": 3}, "p", "unknown key 'parameter'."),
        ({"status": "E"}, "p.status", "expected one of exact, exact but, approximation, got 'E'."),
        ({"status": "approximation"}, "p.differs", "is missing."),
        ({"size": [224]}, "p.size", "expected 2 whole numbers, got [224]."),
        ({"size": 224}, "p.size", "expected 2 whole numbers, got 224."),
        ({"parameters": 1.5}, "p.parameters", "expected a whole number, at least 1, got 1.5."),
        ({"outputs": True}, "p.outputs", "expected a whole number, at least 1, got True."),
        ({"without": [3]}, "p.without", "expected numbers of parameters by name, got [3]."),
        ({"without": {"head": "x"}}, "p.without", "expected numbers of parameters by name, got {'head': 'x'}."),
        ({"macs": "many"}, "p.macs", "expected a count, got 'many'."),
    ],
)
def test_what_is_out_of_shape_is_refused_with_its_place(change: dict[str, Any], where: str, problem: str) -> None:
    with pytest.raises(SpaceError) as caught:
        read_published({**GIVEN, **change}, "p", 2)
    assert (caught.value.where, caught.value.problem) == (where, problem)


@pytest.mark.parametrize("key", GIVEN)
def test_what_is_missing_is_named(key: str) -> None:
    with pytest.raises(SpaceError, match=f"p: '{key}' is missing"):
        read_published({name: value for name, value in GIVEN.items() if name != key}, "p", 2)


def test_it_is_named_values() -> None:
    with pytest.raises(SpaceError, match=r"p: expected named values, got 3\."):
        read_published(3, "p", 2)
