"""A search that is ended by one of its callbacks: cleanly, and so that it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import medsearch
from medsearch.core.children import Children
from medsearch.core.lock import hold

SPACE = """\
name: small
dims: 2
stem: {name: conv, stride: 4}
heads: {classification: {name: classify}}
stages: [{dim: {choice: [8, 16]}, depth: 1, mixer: dwconv, channel: {name: mlp, ratio: {choice: [1, 2]}}}]
"""


class Stop(Exception):
    """What the callback raises."""


class Stopping(medsearch.Callback):
    """Raises when it is told something, and remembers all of it."""

    def __init__(self, at: str = "") -> None:
        self.at, self.heard = at, list[str]()

    def _told(self, what: str) -> None:
        self.heard.append(what)
        if what == self.at:
            raise Stop(what)

    def phase(self, name: str) -> None:
        self._told(name)

    def earlier(self, trials: Any, *, front: Any) -> None:
        self._told(f"{len(trials)} earlier")

    def trial(self, row: Any) -> None:
        self._told("trial")

    def end(self) -> None:
        self._told("end")


def search(folder: Path, callback: Stopping) -> medsearch.SearchResult:
    (folder / "small.yaml").write_text(SPACE)
    short = {"trials": 2, "finalists": 1, "epochs": 1, "epochs_search": 1, "workers": 1, "precision": "fp32"}
    return medsearch.search("brain2d", space=folder / "small.yaml", out=folder / "run", callbacks=[callback], **short)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Children]:
    """The groups of child processes that were ended."""
    ended: list[Children] = []
    close = Children.__exit__

    def noted(self: Children, *error: Any) -> Any:
        ended.append(self)
        return close(self, *error)

    monkeypatch.setattr(Children, "__exit__", noted)
    return ended


SEARCHING = "searching"


def test_it_ends_cleanly_and_is_a_run_that_can_be_resumed(tmp_path: Path, closed: list[Children]) -> None:
    callback = Stopping(SEARCHING)
    with pytest.raises(Stop):
        search(tmp_path, callback)
    assert callback.heard == [SEARCHING, "end"]
    assert len(closed) == 2
    with hold(tmp_path / "run"):
        pass  # nobody holds it any more
    again = Stopping(SEARCHING)
    with pytest.raises(Stop):
        medsearch.resume(tmp_path / "run", callbacks=[again])
    assert again.heard == callback.heard


@pytest.mark.slow
def test_it_goes_on_with_the_trials_that_had_ended(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        search(tmp_path, Stopping("trial"))
    callback = Stopping()
    result = medsearch.resume(tmp_path / "run", callbacks=[callback])
    assert callback.heard[0] == "1 earlier" and callback.heard[-1] == "end"
    assert callback.heard.count("trial") == len(result.trials) - 1 == 1
    assert result.best.checkpoint.exists()
