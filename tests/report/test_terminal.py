import io

import pytest
from rich.console import Console

from medsearch.report.terminal import compression_table, front_table


def drawn(renderable, width):
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, legacy_windows=False).print(renderable)
    return file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_is_cut_off_and_nothing_sticks_out(results, width):
    text = drawn(front_table(results), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    said = " ".join(text.split())
    for network in results["delivered"]:
        assert network["id"] in said
    for part in ("0.948", "0.940", "2.05 → 2.14", "892 → 883 MB", "88 % of 1 GB", "1.85 M", "84.2 M", "fits", "best"):
        assert part in said
    assert "0 of 5 delivered over budget" in said


@pytest.mark.parametrize("width", [40, 80, 120])
def test_budgets_prediction_errors_refusals_and_remarks_are_told(results, width):
    text = " ".join(drawn(front_table(results), width).split())
    assert "memory ≤ 1 GB (one training step, batch 64, bf16)" in text
    assert "latency: median error 3.1 %" in text
    assert "00ff00ff00: the ONNX file differed from the network by 0.02" in text
    assert "differences below 2 points mean little" in text


def test_a_network_over_budget_is_named_as_such(results):
    results["delivered"][0]["costs"]["memory"]["measured"] = 1.2e9
    text = drawn(front_table(results), 120)
    assert "1 of 5 delivered over budget" in text and "over: memory" in text and "120 % of 1 GB" in text


def test_brackets_in_what_people_write_are_not_markup(results):
    results |= {"name": "run [bold]x[/bold]", "remarks": ["see [1] and [/nothing]"]}
    text = drawn(front_table(results), 120)
    assert "run [bold]x[/bold]" in text and "see [1] and [/nothing]" in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_odd_results_are_drawn(odd_results, width):
    assert "delivered" in drawn(front_table(odd_results), width)


def test_a_compression_shows_before_after_and_steps(compression):
    text = drawn(compression_table(compression), 80)
    for part in ("4 MB", "1.1 MB", "3.64x smaller", "1.60x faster", "-0.003", "31 of 40 layers", "0.3 points"):
        assert part in text


def test_a_compression_about_which_little_is_known_is_drawn():
    assert "latency" in drawn(compression_table({"float": None, "steps": None}), 80)
