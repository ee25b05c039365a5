import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
from PIL import Image

from medsearch.report.plots import _draw, _unit, front_plot


@pytest.fixture
def figure(results):
    return _draw(results)


def width(path):
    with Image.open(path) as image:
        return image.width


def words(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_two_files_are_written_and_the_same_results_give_the_same_bytes(results, tmp_path):
    for name in ("a", "b"):
        front_plot(results, tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert width(tmp_path / "a.png") == 1200
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert not re.search(r"<dc:date>", (tmp_path / "a.svg").read_text())


def test_settings_of_matplotlib_are_left_and_taken_as_they_were(results, tmp_path):
    front_plot(results, tmp_path / "a.png", tmp_path / "a.svg")
    with matplotlib.rc_context({"font.size": 30.0, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        front_plot(results, tmp_path / "b.png", tmp_path / "b.svg")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_axes_have_units_and_conditions_and_budgets_are_drawn_and_named(figure):
    latency, memory = figure.axes
    assert latency.get_xlabel() == "latency (ms)\nONNX Runtime, CPU, batch 1, 1 thread"
    assert memory.get_xlabel() == "memory (MB)\none training step, batch 64, bf16"
    assert latency.get_ylabel() == "validation error (1 − accuracy)"
    assert {"budget 2.5 ms", "budget 1 GB"} <= set(words(figure))
    assert [2.5, 2.5] in [list(line.get_xdata()) for line in latency.lines]
    assert [1000.0, 1000.0] in [list(line.get_xdata()) for line in memory.lines]


def test_what_lies_beyond_a_budget_is_shaded(figure):
    for axes, limit in zip(figure.axes, (2.5, 1000.0), strict=True):
        (shade,) = axes.patches
        box = shade.get_bbox()
        assert box.x0 == pytest.approx(limit) and box.x1 >= axes.get_xlim()[1] - 1e-9


def test_what_was_trained_further_than_the_first_rung_is_larger_and_the_others_are_named(figure, results):
    sizes = [float(size) for drawn in figure.axes[0].collections for size in drawn.get_sizes()]
    assert {14.0, 34.0} < set(sizes)
    assert "trained to the first rung" in words(figure)
    for trial in results["trials"]:
        trial["rungs"] = 3 if trial["rungs"] else 0
    assert "trained to the first rung" not in words(_draw(results))
    for trial in results["trials"]:
        del trial["rungs"]
    assert "trained to the first rung" in words(_draw(results))


def test_every_delivered_network_is_numbered_and_spelled_out(figure, results):
    said = words(figure)
    for place, network in enumerate(sorted(results["delivered"], key=lambda n: n["costs"]["latency"]["measured"]), 1):
        assert said.count(str(place)) == 3, "once in each panel and once in the key"
        assert any(network["id"] in word for word in said)
    assert "linear·topk·block-gmlp·block-gmlp" in said


def test_a_wide_span_is_logarithmic_and_a_narrow_one_is_not(figure, results):
    latency, memory = figure.axes
    assert (latency.get_xscale(), memory.get_xscale()) == ("linear", "log")  # 6 and 11 times the smallest value
    results["trials"][0]["costs"]["latency"]["predicted"] = 0.01
    assert _draw(results).axes[0].get_xscale() == "log"


def test_a_budget_far_beyond_everything_does_not_squeeze_the_picture(results):
    results["budgets"][1]["limit"] = 1000.0
    figure = _draw(results)
    assert "budget 1000 ms, far to the right" in words(figure)
    assert figure.axes[0].get_xlim()[1] < 10


def test_a_budget_on_parameters_has_its_own_panel(results):
    results["budgets"].append({"name": "parameters", "limit": 5e6, "unit": "parameters"})
    figure = _draw(results)
    assert [axes.get_xlabel().split("\n")[0] for axes in figure.axes][2] == "params (M)"


def test_units_suit_the_largest_value():
    assert _unit("bytes", 1e9) == ("MB", 1e6)
    assert _unit("bytes", 3e9) == ("GB", 1e9)
    assert _unit("ms", 0.1) == ("ms", 1.0)
    assert _unit("MAC", 8e9) == ("G", 1e9)


def test_odd_results_are_drawn(odd_results, tmp_path):
    front_plot(odd_results, tmp_path / "a.png", tmp_path / "a.svg")
    assert width(tmp_path / "a.png") == 1200


def test_a_dollar_in_a_name_is_a_dollar(results, tmp_path):
    front_plot(results | {"name": "a $ b $ {"}, tmp_path / "a.png", tmp_path / "a.svg")
    assert (tmp_path / "a.svg").exists()
