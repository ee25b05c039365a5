"""The display of a search in a notebook: one, replaced as the search goes on, and text where text is meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medsearch.report.notebook import NotebookView

ROOT = Path(__file__).parents[2]


class Screen:
    """Keeps what is shown, by name, as a notebook does."""

    def __init__(self) -> None:
        self.now = 100.0
        self.shown: dict[str, str] = {}
        self.drawn = 0

    def __call__(self, text: str, *, name: str, update: bool) -> None:
        assert update == (name in self.shown), "shown once, then replaced"
        self.shown[name] = text
        self.drawn += 1

    def clock(self) -> float:
        return self.now

    @property
    def text(self) -> str:
        """Of the display that was begun last."""
        return list(self.shown.values())[-1]


@pytest.fixture
def screen() -> Screen:
    return Screen()


def begun(screen: Screen, title: str = "cells: classification in tiny", *, spent: float = 0.0) -> NotebookView:
    view = NotebookView(display=screen, clock=screen.clock)
    view.begin(title, seconds=600.0, spent=spent, resume="medsearch search --resume runs/x")
    return view


def row(**known: Any) -> dict[str, Any]:
    return {
        "id": "0123456789",
        "mixers": ["dwconv", "linear_attention"],
        "error": 0.123456,
        "state": "complete",
    } | known


def test_it_shows_title_phase_progress_trials_time_and_the_last_note(screen: Screen) -> None:
    view = begun(screen, spent=60.0)
    assert screen.text == "cells: classification in tiny<br>0 trials, 1:00"
    view.phase("searching")
    view.note("first")
    view.note("second")
    view.trial(row())
    screen.now += 5
    view.progress(2, 10, "blocks")
    assert screen.text == "cells: classification in tiny<br>searching 2 of 10 blocks<br>1 trial, 1:05<br>second"
    screen.now += 5
    view.progress(7, 0, "networks")
    assert "searching 7 networks" in screen.text
    view.end()
    assert "finished<br>1 trial, 1:10" in screen.text
    assert len(screen.shown) == 1


def test_the_front_is_a_table_in_which_names_are_text(screen: Screen) -> None:
    view = begun(screen, "<script>")
    view.earlier([row(), row(), row()], front=[row()])
    assert "&lt;script&gt;<br>3 trials" in screen.text
    assert "<tr><td>0123456789</td><td>dwconv / linear_attention</td><td>0.1235</td></tr></table>" in screen.text
    view.front([row(id="<b>")])
    assert "<td>&lt;b&gt;</td>" in screen.text and "0123456789" not in screen.text


def test_progress_is_drawn_twice_a_second_and_at_its_end(screen: Screen) -> None:
    view = begun(screen)
    view.phase("measuring")
    before = screen.drawn
    for done in range(1, 101):
        screen.now += 0.01
        view.progress(done, 100, "parts")
    assert screen.drawn == before + 2
    assert "measuring 100 of 100 parts" in screen.text


def test_a_second_search_leaves_the_display_of_the_first_alone(screen: Screen) -> None:
    begun(screen, "first").end()
    begun(screen, "second").end()
    assert [text.partition("<br>")[0] for text in screen.shown.values()] == ["first", "second"]


def test_outside_of_a_notebook_ipython_shows_nothing_and_nothing_fails() -> None:
    pytest.importorskip("IPython")
    code = """
from medsearch.report.notebook import NotebookView
view = NotebookView()
view.begin("cells", seconds=None, spent=0.0, resume="")
view.phase("searching")
view.end()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr


def test_inside_of_ipython_each_view_is_displayed_once_and_then_updated() -> None:
    pytest.importorskip("IPython")
    code = """
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from medsearch.report.notebook import NotebookView
shell = InteractiveShell.instance()
shell.display_pub = CapturingDisplayPublisher(parent=shell, shell=shell)
view = NotebookView()
view.begin("cells", seconds=None, spent=0.0, resume="")
view.phase("searching")
for each in shell.display_pub.outputs:
    print(each["transient"]["display_id"], each["update"], each["data"]["text/html"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (one, _, shown), (other, _, replaced) = (line.split(" ", 2) for line in done.stdout.splitlines())
    assert one == other and shown.startswith("cells<br>") and replaced.startswith("cells<br>searching<br>")
    assert [line.split(" ")[1] for line in done.stdout.splitlines()] == ["False", "True"]
