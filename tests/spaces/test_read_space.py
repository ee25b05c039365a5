"""Spaces as people write them: what is read, and what every wrong line is answered with."""

from __future__ import annotations

import pytest

from medsearch.core.config import parse_yaml
from medsearch.core.errors import SpaceError
from medsearch.spaces import Part, Space, read_space

TINY = """\
name: tiny
about: for tests
dims: 2
stem: conv
heads: {classification: classify, segmentation: {name: pyramid, dim: 8}}
stages:
  - {dim: 8, mixer: dwconv, channel: mlp}
  - dim: {choice: [8, 16]}
    depth: {range: [1, 3]}
    mixer: {choice: [linear_attention, {name: dwconv, kernel: {choice: [3, 5]}}]}
    channel: {name: mlp, ratio: 2}
    down: merge
"""


def read(text: str, task: str = "classification") -> Space:
    return read_space(parse_yaml(text, "tiny.yaml").value, "tiny.yaml", task=task)


def test_a_name_alone_is_a_part_with_its_defaults() -> None:
    genotype = read(TINY).first()
    assert genotype.stem == Part.of("conv")
    assert genotype.stages[0].blocks[0].mixer == Part.of("dwconv")
    assert genotype.stages[1].down == Part.of("merge")
    assert genotype.stages[1].blocks[0].channel == Part.of("mlp", ratio=2)
    assert genotype.stages[1].blocks[0].mixer == Part.of("linear_attention")


def test_what_is_not_said_has_its_default() -> None:
    text = TINY.replace("    down: merge\n", "").replace("about: for tests\n", "")
    space = read(text)
    first, second = space.first().stages
    assert (len(first.blocks), first.down, second.down) == (1, None, Part.of("conv3s2"))
    assert (first.blocks[0].residual, first.blocks[0].layer_scale) == ("each", None)
    assert (space.name, space.dims, space.about, space.source) == ("tiny", 2, "", "tiny.yaml")


def test_the_down_of_a_stage_goes_before_the_down_of_the_space() -> None:
    text = TINY.replace("stem: conv", "stem: conv\ndown: conv2s2")
    assert read(text).first().stages[1].down == Part.of("merge")
    assert read(text.replace("    down: merge\n", "")).first().stages[1].down == Part.of("conv2s2")


def test_the_head_is_that_of_the_task() -> None:
    assert read(TINY).first().head == Part.of("classify")
    assert read(TINY, task="segmentation").first().head == Part.of("pyramid", dim=8)


def test_genes_are_named_by_their_path_and_come_with_their_options() -> None:
    assert read(TINY).genes() == {
        "stages.1.dim": [8, 16],
        "stages.1.depth": [1, 2, 3],
        "stages.1.mixer": ["linear_attention", "dwconv"],
        "stages.1.mixer.dwconv.kernel": [3, 5],
    }


def test_options_of_one_part_are_told_apart_by_their_knobs() -> None:
    text = TINY.replace("linear_attention,", "{name: dwconv, norm: none, kernel: 7}, {name: dwconv, kernel: 9},")
    text = text.replace("{name: dwconv, kernel: {choice: [3, 5]}}", "linear_attention")
    labels = read(text).genes()["stages.1.mixer"]
    assert labels == ["dwconv(kernel=7, norm=none)", "dwconv(kernel=9)", "linear_attention"]


WRONG = [
    # what is written, in place of what, then the place, problem and remedy of the error
    ("- 1", TINY, "tiny.yaml", "expected a mapping, got a list.", ""),
    ("nam: tiny", "name: tiny", "tiny.yaml", "unknown key 'nam'.", "Did you mean 'name'? Known: about, dims"),
    ("1: tiny", "name: tiny", "tiny.yaml", "expected names as keys, got 1.", "Quote it: '1'."),
    ("", "dims: 2\n", "tiny.yaml", "'dims' is missing.", ""),
    ("", "stem: conv\n", "tiny.yaml", "'stem' is missing.", ""),
    ("name: 7", "name: tiny", "tiny.yaml: name", "expected a text, got 7.", ""),
    ("dims: 4", "dims: 2", "tiny.yaml: dims", "expected 2 or 3, got 4.", ""),
    ("dims: 2.0", "dims: 2", "tiny.yaml: dims", "expected 2 or 3, got 2.0.", ""),
    ("dims: two", "dims: 2", "tiny.yaml: dims", "expected 2 or 3, got 'two'.", ""),
    ("{1: classify, ", "{classification: classify, ", "tiny.yaml: heads", "no head for task 'cl", "Tasks: 1, segm"),
    (
        "heads: classify",
        "heads: {classification: classify, segmentation: {name: pyramid, dim: 8}}",
        "tiny.yaml: heads",
        "expected a head per task, got 'classify'.",
        "",
    ),
    (
        "{classification: [classify], ",
        "{classification: classify, ",
        "tiny.yaml: heads.classification",
        "expected a part with a name, got ['classify'].",
        "Write {name: dwconv",
    ),
    (
        "stem: {stride: 2}",
        "stem: conv",
        "tiny.yaml: stem",
        "expected a part with a name, got {'stride': 2}.",
        "Write {name: dwconv, kernel: 5}.",
    ),
    ("stem: {name: conv, 2: 3}", "stem: conv", "tiny.yaml: stem", "expected a part with a name, got {'name'", "Write"),
    (
        "stem: {name: conv, stride: [1, 2]}",
        "stem: conv",
        "tiny.yaml: stem.stride",
        "expected a single value, got [1, 2].",
        "To search, write {choice: [...]} or {range: [low, high]}.",
    ),
    (
        "stem: {name: conv, stride: {choice: [[1], 2]}}",
        "stem: conv",
        "tiny.yaml: stem.stride",
        "expected a single value, got [1].",
        "To search, write {choice",
    ),
    (
        "stem: {name: conv, stride: {chioce: [1, 2]}}",
        "stem: conv",
        "tiny.yaml: stem.stride",
        "expected a single value, got {'chioce': [1, 2]}.",
        "To search, write {choice",
    ),
    (
        "stem: {name: {choice: [conv, patch]}}",
        "stem: conv",
        "tiny.yaml: stem",
        "expected a part with a name",
        "Write {",
    ),
    (
        "stem: {range: [1, 2]}",
        "stem: conv",
        "tiny.yaml: stem",
        "expected a choice of parts, got {'range': [1, 2]}.",
        "Write {choice: [{name: ...}, ...]}.",
    ),
    (
        "stem: {choice: [conv], name: conv}",
        "stem: conv",
        "tiny.yaml: stem",
        "expected a choice of parts",
        "Write {choice",
    ),
    ("- 8", "- {dim: 8, mixer: dwconv, channel: mlp}", "tiny.yaml: stages[0]", "expected a stage with the keys", ""),
    (
        "{dime: 8, mi",
        "{dim: 8, mi",
        "tiny.yaml: stages[0]",
        "unknown key 'dime'.",
        "Did you mean 'dim'? Known: blocks, channel",
    ),
    ("{mixer: dwconv", "{dim: 8, mixer: dwconv", "tiny.yaml: stages[0]", "'dim' is missing.", ""),
    ("dwconv}", "dwconv, channel: mlp}", "tiny.yaml: stages[0]", "'channel' is missing.", ""),
    (
        "{dim: 8, channel",
        "{dim: 8, mixer: dwconv, channel",
        "tiny.yaml: stages[0]",
        "expected one of 'mixer', 'mixer",
        "",
    ),
    ("mixers: [dwconv], mixer: d", "mixer: d", "tiny.yaml: stages[0]", "expected one of 'mixer', 'mixers'", ""),
    ("mixers: dwconv", "mixer: dwconv", "tiny.yaml: stages[0].mixers", "expected a list of mixers, got 'dwconv'.", ""),
    ("mixers: []", "mixer: dwconv", "tiny.yaml: stages[0].mixers", "expected a list of mixers, got [].", ""),
    (
        "mixers: [dwconv, pool]",
        "mixer: dwconv",
        "tiny.yaml: stages[0].mixers",
        "a cycle of 2 mixers is longer than the depth, 1.",
        "Shorten the cycle, or make the stage deeper.",
    ),
    (
        "size: 64\nstem: conv",
        "stem: conv",
        "tiny.yaml: size",
        "expected 2 whole numbers, got 64.",
        "It is the smallest",
    ),
    ("size: [64, 0]\nstem: conv", "stem: conv", "tiny.yaml: size", "expected 2 whole numbers, got [64, 0].", "It is"),
    ("blocks: dwconv", "mixer: dwconv", "tiny.yaml: stages[0].blocks", "expected a list of blocks, got 'dwconv'.", ""),
    ("blocks: []", "mixer: dwconv", "tiny.yaml: stages[0].blocks", "expected a list of blocks, got [].", ""),
    (
        "blocks: [{mixr: dwconv}]",
        "mixer: dwconv",
        "tiny.yaml: stages[0].blocks[0]",
        "unknown key 'mixr'.",
        "Did you mean 'mixer'? Known: channel, layer_scale, local, mixer, position, residual.",
    ),
    ("blocks: [{local: dwconv}]", "mixer: dwconv", "tiny.yaml: stages[0].blocks[0]", "'mixer' is missing.", ""),
    ("position: 3, mixer: d", "mixer: d", "tiny.yaml: stages[0].position", "expected a part with a name, got 3.", "Wr"),
    (
        "{down: merge, dim: 8",
        "{dim: 8",
        "tiny.yaml: stages[0].down",
        "the first stage has no downsampling.",
        "The stem",
    ),
    ("{dim: 0", "{dim: 8", "tiny.yaml: stages[0].dim", "expected a whole number, at least 1, got 0.", ""),
    ("{dim: '8'", "{dim: 8", "tiny.yaml: stages[0].dim", "expected a whole number, at least 1, got '8'.", ""),
    ("{dim: true", "{dim: 8", "tiny.yaml: stages[0].dim", "expected a whole number, at least 1, got True.", ""),
    (
        "{dim: [8, 16]",
        "{dim: 8",
        "tiny.yaml: stages[0].dim",
        "expected a whole number, at least 1, got [8, 16].",
        "To search, write {choice: [...]} or {range: [low, high]}.",
    ),
    (
        "choice: [8, 9.5]",
        "choice: [8, 16]",
        "tiny.yaml: stages[1].dim",
        "expected a whole number, at least 1, got 9.5",
        "",
    ),
    ("choice: 8", "choice: [8, 16]", "tiny.yaml: stages[1].dim", "expected a list of options, got 8.", ""),
    ("choice: []", "choice: [8, 16]", "tiny.yaml: stages[1].dim", "expected a list of options, got [].", ""),
    (
        "choice: [8, {choice: [16]}]",
        "choice: [8, 16]",
        "tiny.yaml: stages[1].dim.choice[1]",
        "a choice cannot be an option.",
        "Write all options in one list.",
    ),
    (
        "choice: [8, 16, 8]",
        "choice: [8, 16]",
        "tiny.yaml: stages[1].dim.choice[2]",
        "option 8 is there twice.",
        "Remove one of them.",
    ),
    ("range: [0, 3]", "range: [1, 3]", "tiny.yaml: stages[1].depth", "expected a whole number, at least 1, got 0.", ""),
    (
        "range: [1]",
        "range: [1, 3]",
        "tiny.yaml: stages[1].depth",
        "expected range: [low, high] in whole numbers, got",
        "",
    ),
    (
        "range: [3, 1]",
        "range: [1, 3]",
        "tiny.yaml: stages[1].depth",
        "expected range: [low, high] in whole numbers",
        "",
    ),
    (
        "range: [1, x]",
        "range: [1, 3]",
        "tiny.yaml: stages[1].depth",
        "expected range: [low, high] in whole numbers",
        "",
    ),
    (
        "range: [1, 3], step: 2",
        "range: [1, 3]",
        "tiny.yaml: stages[1].depth",
        "'choice' or 'range' stands alone, got the keys range, step.",
        "",
    ),
    (
        "choice: [3, 3]",
        "choice: [3, 5]",
        "tiny.yaml: stages[1].mixer.choice[1].kernel.choice[1]",
        "option 3 is there twice.",
        "Remove one of them.",
    ),
    (
        "{choice: [dwconv, ",
        "{choice: [linear_attention, ",
        "tiny.yaml: stages[1].mixer.choice[1]",
        "option 'dwconv' is there twice.",
        "Remove one of them.",
    ),
    (
        "{choice: [{name: dwconv, kernel: 3}, ",
        "{choice: [linear_attention, ",
        "tiny.yaml: stages[1].mixer",
        "'dwconv' is there twice, and its knobs are open.",
        "Write one option with all its choices, or give every knob",
    ),
    (
        "{choice: [{choice: [pool]}, ",
        "{choice: [linear_attention, ",
        "tiny.yaml: stages[1].mixer.choice[0]",
        "a choice cannot be an option.",
        "Write all options in one list.",
    ),
    (
        "mlp, ratio: 2}\n    residual: both",
        "mlp, ratio: 2}",
        "tiny.yaml: stages[1].residual",
        "expected 'each' or 'joint', got 'both'.",
        "",
    ),
    (
        "mlp, ratio: 2}\n    layer_scale: small",
        "mlp, ratio: 2}",
        "tiny.yaml: stages[1].layer_scale",
        "expected a number, got 'small'.",
        "",
    ),
]


@pytest.mark.parametrize(
    ("seen", "instead", "where", "problem", "remedy"), WRONG, ids=[f"{where} {seen}" for seen, _, where, *_ in WRONG]
)
def test_a_wrong_line_is_refused_with_place_what_was_seen_and_remedy(
    seen: str, instead: str, where: str, problem: str, remedy: str
) -> None:
    assert TINY.count(instead) == 1
    with pytest.raises(SpaceError) as caught:
        read(TINY.replace(instead, seen))
    assert (caught.value.where, caught.value.problem[: len(problem)]) == (where, problem)
    assert caught.value.remedy.startswith(remedy) and bool(remedy) == bool(caught.value.remedy)


def test_data_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"x: expected a space with the keys about, dims, .*, got \['name'\]"):
        read_space(["name"], "x")


def test_a_task_without_a_head_is_refused_with_the_tasks_there_are() -> None:
    with pytest.raises(SpaceError) as caught:
        read(TINY, task="denoising")
    assert str(caught.value) == (
        "tiny.yaml: heads: no head for task 'denoising'.\n  Tasks: classification, segmentation."
    )
