"""Callbacks: each is told everything in order, and the end whatever happened."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from medsearch.core.callback import Callback, Callbacks

TOLD: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "begin": (("cells",), {"seconds": 60.0, "spent": 5.0, "resume": "go on"}),
    "earlier": (([{"id": "a"}],), {"front": []}),
    "phase": (("searching",), {}),
    "progress": ((1, 4, "blocks"), {}),
    "trial": (({"id": "b"},), {}),
    "front": (([{"id": "b"}],), {}),
    "note": (("so it is",), {}),
}
"""What may be told between beginning and end."""


class Recorder(Callback):
    """Writes down who was told what."""

    def __init__(self, name: str, heard: list[Any], *, fails_at: str = "") -> None:
        self.name, self.heard, self.fails_at = name, heard, fails_at

    def __getattribute__(self, method: str) -> Any:
        if method not in (*TOLD, "end"):
            return super().__getattribute__(method)

        def told(*given: Any, **named: Any) -> None:
            self.heard.append((self.name, method, given, named))
            if method == self.fails_at:
                raise RuntimeError(f"{self.name} fails at {method}")

        return told


def test_the_base_has_every_method_and_does_nothing() -> None:
    methods = [name for name, _ in inspect.getmembers(Callback, inspect.isfunction) if not name.startswith("_")]
    assert set(methods) == {*TOLD, "end"}
    for name, (given, named) in TOLD.items():
        assert getattr(Callback(), name)(*given, **named) is None
    assert Callback().end() is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("method", TOLD)
def test_each_is_told_everything_in_order(method: str) -> None:
    heard: list[Any] = []
    given, named = TOLD[method]
    with Callbacks([Recorder("one", heard), Recorder("two", heard)]) as several:
        getattr(several, method)(*given, **named)
        assert heard == [("one", method, given, named), ("two", method, given, named)]
    assert [(name, what) for name, what, *_ in heard[2:]] == [("one", "end"), ("two", "end")]


@pytest.mark.parametrize("method", TOLD)
def test_what_one_raises_ends_it_and_all_are_told_the_end(method: str) -> None:
    heard: list[Any] = []
    given, named = TOLD[method]
    several = Callbacks([Recorder("one", heard, fails_at=method), Recorder("two", heard)])
    with pytest.raises(RuntimeError, match=f"one fails at {method}"), several:
        getattr(several, method)(*given, **named)
    assert [(name, what) for name, what, *_ in heard] == [("one", method), ("one", "end"), ("two", "end")]


def test_one_that_fails_at_the_end_keeps_nobody_else_from_it() -> None:
    heard: list[Any] = []
    with pytest.raises(RuntimeError, match="one fails at end"):
        with Callbacks([Recorder("one", heard, fails_at="end"), Recorder("two", heard)]):
            pass
    assert [(name, what) for name, what, *_ in heard] == [("one", "end"), ("two", "end")]
