import io
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from medsearch.report.frame import Moment, frame
from medsearch.report.live import LiveSearch

ROOT = Path(__file__).parents[2]


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def plain(*, clock=time.monotonic, **given):
    file = io.StringIO()
    return file, watching("tiny on cells", console=Console(file=file, width=40), clock=clock, **given)


@contextmanager
def watching(title, *, seconds=None, spent=0.0, resume="", **given):
    """The view while it watches a search."""
    live = LiveSearch(**given)
    live.begin(title, seconds=seconds, spent=spent, resume=resume)
    try:
        yield live
    finally:
        live.end()


def terminal():
    return Console(file=io.StringIO(), force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})


def shown(moment, *, width=80, height=24, elapsed=125.0):
    file = io.StringIO()
    view = frame(moment, elapsed=elapsed, width=width, height=height)
    Console(file=file, width=width, color_system=None).print(view)
    return file.getvalue()


@pytest.fixture
def moment(results):
    trials = results["trials"]
    return Moment(
        name="tiny on cells",
        resume="medsearch search --resume runs/x",
        seconds=900.0,
        phase="searching",
        progress=(12, 40, "trials"),
        count=12,
        trials=tuple(trials[2:10]),
        front=tuple(trial for trial in trials if trial["front"]),
        best=trials[4],
    )


def test_without_a_terminal_every_event_is_one_line(results):
    clock = Clock()
    file, live = plain(seconds=60, resume="medsearch search --resume runs/x", clock=clock)
    with live as live:
        live.phase("searching")
        clock.now += 65
        live.trial({**results["trials"][0], "rungs": 1})
        live.front(results["trials"][:2])
        live.note("a remark that is longer than the forty columns of this console")
    lines = file.getvalue().splitlines()
    assert lines[0] == "tiny on cells. Ctrl-C stops cleanly; resume with: medsearch search --resume runs/x"
    assert lines[1] == "[0:00] searching"
    assert lines[2].startswith(f"[1:05] trial 0 {results['trials'][0]['id']}: error 0.1349, latency 1.73 ms, ")
    assert lines[3].startswith("[1:05] front of 2: ")
    assert lines[4] == "a remark that is longer than the forty columns of this console"
    assert lines[5].startswith("1 trial, best error 0.1349") and lines[5].endswith("; 1:05 in all")
    assert "\x1b" not in file.getvalue()


def test_without_a_terminal_progress_is_said_every_half_minute_and_at_the_end():
    clock = Clock()
    file, live = plain(clock=clock)
    with live as live:
        live.phase("measuring")
        for done in range(1, 101):
            clock.now += 1
            live.progress(done, 100, "blocks")
    said = [line for line in file.getvalue().splitlines() if "of 100 blocks" in line]
    assert [line.split()[2] for line in said] == ["30", "60", "90", "100"]
    assert [line.partition(", about ")[2] for line in said] == ["1:10 left", "0:40 left", "0:10 left", ""]


def test_the_best_is_the_smallest_error_of_a_complete_trial():
    rows = [
        {"state": "running", "error": 0.01, "mixers": ["grid_gmlp"]},
        {"state": "complete", "error": 0.3, "mixers": ["dwconv"]},
        {"state": "complete", "error": 0.2, "mixers": ["window_attention"]},
        {"state": "complete", "error": None, "mixers": None},
        {"state": "failed"},
    ]
    file, live = plain()
    with live as live:
        for row in rows:
            live.trial(row)
    assert "5 trials, best error 0.2000: window;" in file.getvalue()


def test_a_trial_that_goes_on_is_counted_and_listed_once(results):
    console = terminal()
    row = {"number": 0, "id": "abc", "state": "complete", "error": 0.3, "mixers": ["dwconv"], "rungs": 1}
    other = {**row, "number": 1, "id": "def", "error": 0.2}
    further = {**row, "error": 0.1, "rungs": 2}
    file, live = plain()
    for view in (live, watching("tiny on cells", console=console)):
        with view as shown:
            for ended in (row, other, further):
                shown.trial(ended)
    lines = file.getvalue().splitlines()
    said = [line.partition("] ")[2] for line in lines[1:4]]
    assert [line.partition(":")[0] for line in said] == ["trial 0 abc", "trial 1 def", "trial 0 abc"]
    assert [line.rpartition(", ")[2] for line in said] == ["complete", "complete", "rung 2"]
    assert lines[4].startswith("2 trials, best error 0.1000")
    assert "2 trials, best error 0.1000" in console.file.getvalue()


def test_a_search_that_goes_on_counts_from_what_is_there(results):
    clock = Clock()
    file, live = plain(seconds=600, spent=125.0, clock=clock)
    ended = [row for row in results["trials"] if row["state"] != "running"]
    with live as live:
        live.earlier(ended, front=[row for row in ended if row["front"]])
        clock.now += 5
        live.trial({"number": 99, "id": "new", "state": "failed"})
    lines = file.getvalue().splitlines()
    best = min(row["error"] for row in ended if row["state"] == "complete")
    assert lines[1].startswith(f"[2:05] going on after {len(ended)} trials, best error {best:.4f}: ")
    assert lines[2].startswith("[2:10] trial 99")
    assert lines[3].startswith(f"{len(ended) + 1} trials, best error {best:.4f}: ") and lines[3].endswith(
        "; 2:10 in all"
    )


def test_the_view_of_a_search_that_goes_on_begins_with_what_is_there(results):
    console = terminal()
    ended = results["trials"]
    with watching("tiny on cells", seconds=600, spent=125.0, console=console, clock=Clock()) as live:
        live.earlier(ended, front=[row for row in ended if row["front"]])
    text = console.file.getvalue()
    assert "last trials" in text and "front (11)" in text and "elapsed 2:05, left 7:55" in text


def test_in_a_terminal_the_view_is_drawn_in_place_and_cleared(results):
    console = terminal()
    with watching("tiny on cells", seconds=60, console=console) as live:
        live.phase("searching")
        live.note("this stays")
        for trial in results["trials"]:
            live.trial(trial)
        live.progress(60, 60, "trials")
        live.front([trial for trial in results["trials"] if trial["front"]])
    text = console.file.getvalue()
    assert "last trials" in text and "front (11)" in text and "this stays" in text
    assert "\x1b[2K" in text and "[0:00] trial" not in text
    assert text.splitlines()[-1].endswith("0:00 in all")


def test_an_interrupt_passes_through_and_the_terminal_is_left_clean():
    console = terminal()
    with pytest.raises(KeyboardInterrupt), watching("tiny", console=console):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in console.file.getvalue()


def test_an_output_that_nobody_takes_any_more_stops_nothing():
    code = (
        "import sys; from medsearch.report.live import LiveSearch\n"
        "live = LiveSearch(); live.begin('tiny', seconds=None, spent=0.0, resume='')\n"
        "for number in range(20000): live.note('said to nobody')\n"
        "live.end()\n"
        "print('finished', file=sys.stderr)"
    )
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert started.stdout is not None
    started.stdout.readline()
    started.stdout.close()
    _, errors = started.communicate(timeout=60)
    assert errors.decode().splitlines() == ["finished"] and started.returncode == 0


def test_a_closed_output_stops_nothing(results):
    file = io.StringIO()
    with watching("tiny", console=Console(file=file)) as live:
        file.close()
        live.trial(results["trials"][0])
        reached = True
    assert reached and file.closed


def test_letters_the_output_does_not_know_are_replaced(results):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    with watching("tiny", console=Console(file=file)) as live:
        live.trial(results["trials"][0])
    assert b"block-gmlp?block-gmlp" in raw.getvalue()


def test_the_frame_shows_time_progress_trials_front_and_how_to_stop(moment):
    text = shown(moment)
    for part in ("elapsed 2:05, left 12:55", "12 of 40 trials", "best error 0.1389: conv·grid-gmlp·conv·topk"):
        assert part in text
    for part in ("last trials", "failed", "front (11)", "linear·topk·conv·topk", "522 MB"):
        assert part in text
    assert "Ctrl-C stops cleanly; resume with: medsearch search --resume runs/x" in text


@pytest.mark.parametrize("height", [16, 24, 30, 60])
@pytest.mark.parametrize("width", [50, 80, 120])
def test_the_frame_fits_the_terminal(moment, width, height):
    lines = shown(moment, width=width, height=height).splitlines()
    assert len(lines) <= height and max(map(len, lines)) <= width


def test_a_short_terminal_keeps_the_front_members_with_the_smallest_error(moment):
    errors = sorted(row["error"] for row in moment.front)
    text = shown(moment, height=16)
    assert f"{errors[0]:.4f}" in text and f"{errors[-1]:.4f}" not in text


def test_time_that_has_run_out_is_no_negative_time(moment):
    assert "elapsed 1:02:05, left 0:00" in shown(moment, elapsed=3725.0)


def test_rows_with_nothing_known_are_drawn():
    assert "last trials" in shown(Moment(name="x", trials=({},), front=({"costs": {"latency": None}},)))
