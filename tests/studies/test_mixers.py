"""The benchmark of token mixers: its recipe, its rows, and what it does with those it has."""

from pathlib import Path

import pytest
import torch

from medsearch.blocks import MIXERS
from medsearch.core.errors import RefusedError, RunError, UsageError
from medsearch.studies import mixers as verb
from medsearch.studies import references as references
from medsearch.studies.mixers import bench_blocks, read_plan, read_rows

RECIPE = Path(__file__).parents[2] / "recipes" / "bench" / "blocks.yaml"
SMALL = """
name: small
runs:
  - {mode: eager, precisions: [fp32, bf16], threads: [1], batch: 1, shapes: [6x6x8, 4x4x4x8]}
  - {mode: onnx, precisions: [fp32], threads: [1], batch: 1, shapes: [6x6x8]}
  - {mode: train, precisions: [fp32], threads: [1], batch: 2, shapes: [6x6x8]}
references:
  - {mixer: linear_attention, reference: textbook_linear, dims: [2, 3], knobs: {local: 0}}
  - {mixer: pooling, reference: textbook_pooling, dims: [3]}
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_every_mixer_has_a_rival_or_a_reason():
    plan = read_plan(RECIPE)
    raced = {pair.mixer for pair in plan.pairs}
    assert raced | set(plan.without_reference) == set(MIXERS)
    assert not raced & set(plan.without_reference)


def test_every_rival_is_raced():
    assert {pair.reference for pair in read_plan(RECIPE).pairs} == set(references.REFERENCES)


def test_every_mixer_of_the_recipe_can_be_built_at_its_shapes():
    plan = read_plan(RECIPE)
    for pair in plan.pairs:
        for shape in {shape for runs in plan.runs for shape in runs.shapes if shape.count("x") in pair.dims}:
            *size, dim = map(int, shape.split("x"))
            with torch.device("meta"):
                x_BCS = torch.empty(1, dim, *size)
                assert MIXERS[pair.mixer](dim, dims=len(size), **pair.knobs)(x_BCS).shape == x_BCS.shape, shape


def test_rows_are_written_as_they_end_and_not_measured_again(recipe, tmp_path):
    out = tmp_path / "blocks.csv"
    said = []

    def stop_after_two(line):
        said.append(line)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_blocks(recipe, out=out, seconds=0.001, say=stop_after_two)
    begun = read_rows(out)
    assert len(begun) == 2
    totals = bench_blocks(recipe, out=out, seconds=0.001, say=said.append)
    rows = read_rows(out)
    assert rows[:2] == begun
    assert len(said) == len(rows) == 8
    assert sum(total["rows"] for total in totals) == 8
    bench_blocks(recipe, out=out, seconds=0.001, say=said.append)
    assert len(said) == 8


def test_rows_say_what_was_measured(recipe, tmp_path):
    out = tmp_path / "blocks.csv"
    bench_blocks(recipe, out=out, seconds=0.001, only=["linear_attention"])
    rows = read_rows(out)
    assert {(row["shape"], row["mode"], row["precision"], row["batch"]) for row in rows} == {
        ("6x6x8", "eager", "fp32", "1"),
        ("6x6x8", "eager", "bf16", "1"),
        ("6x6x8", "onnx", "fp32", "1"),
        ("6x6x8", "train", "fp32", "2"),
        ("4x4x4x8", "eager", "fp32", "1"),
        ("4x4x4x8", "eager", "bf16", "1"),
    }
    for row in rows:
        low, ratio, high = (float(row[name]) for name in ("ratio_low", "ratio", "ratio_high"))
        assert 0 < low <= ratio <= high
        assert float(row["over_floor"]) == pytest.approx(float(row["ours_ms"]) / float(row["floor_ms"]), rel=1e-2)
        assert float(row["difference"]) < 1e-4
    text = out.with_suffix(".md").read_text()
    assert "linear_attention local=0 / textbook_linear" in text
    assert "arXiv:2006.16236" in text


def test_a_rival_that_computes_something_else_is_refused(recipe, tmp_path, monkeypatch):
    wrong = references.Reference(build=references.textbook.EfficientAttention, source="another operator")
    monkeypatch.setitem(references.REFERENCES, "textbook_linear", wrong)
    with pytest.raises(RefusedError, match="linear_attention and textbook_linear at 6x6x8: differ by"):
        bench_blocks(recipe, out=tmp_path / "blocks.csv", seconds=0.001)
    assert read_rows(tmp_path / "blocks.csv") == []


def test_slower_rows_and_rows_far_above_their_products_are_listed():
    row = dict.fromkeys((*verb.KEYS, *verb.MEASURED), "1")
    row |= {"mixer": "dwconv", "reference": "timm_convnext", "knobs": "", "ratio": "0.5", "over_floor": "2.5"}
    plan = verb.Benchmark(runs=(), pairs=(), without_reference={"identity": "nothing"})
    text = verb.summary([row], plan, "medsearch bench")
    slower, over = text.split("## ")[1:3]
    assert "dwconv / timm_convnext" in slower and "dwconv / timm_convnext" in over
    row |= {"ratio": "1.5", "over_floor": "1.1"}
    text = verb.summary([row], plan, "medsearch bench")
    assert text.count("Nowhere.") == 2


def test_a_file_with_other_columns_is_left_alone(recipe, tmp_path):
    out = tmp_path / "blocks.csv"
    out.write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="other columns"):
        bench_blocks(recipe, out=out)
    assert out.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "textbook_linear",
            "textbook_linaer",
            "unknown reference 'textbook_linaer'.*\n.*Did you mean 'textbook_linear'",
        ),
        ("mixer: pooling", "mixer: poling", "unknown token mixer 'poling'"),
        ("textbook_pooling, dims: [3]", "textbook_pooling, dims: [2]", "can do"),
        ("local: 0", "lokal: 0", "unknown key 'lokal'"),
        ("6x6x8, 4x4x4x8", "6x8, 4x4x4x8", "axes and channels"),
        ("{mode: onnx, precisions: [fp32]", "{mode: onnx, precisions: [bf16]", "no fast bf16"),
    ],
)
def test_a_mistake_in_a_recipe_is_told(recipe, tmp_path, old, new, message):
    assert old in SMALL
    recipe.write_text(SMALL.replace(old, new))
    with pytest.raises(Exception, match=message) as caught:
        bench_blocks(recipe, out=tmp_path / "blocks.csv")
    assert isinstance(caught.value, UsageError) or "poling" in new
