"""Genotypes as data: what is written is what is read, and what is not a genotype is refused with its place."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from medsearch.core.errors import SpaceError
from medsearch.spaces import Block, Genotype, Part, Stage

MLP = Part.of("mlp", ratio=2)
SMALL = Genotype(
    dims=2,
    stem=Part.of("conv", stride=2),
    stages=(
        Stage(8, (Block(Part.of("dwconv", kernel=5), MLP), Block(Part.of("linear_attention"), MLP))),
        Stage(16, (Block(Part.of("dwconv", norm="none"), MLP, "joint", 1e-6),), Part.of("merge")),
    ),
    head=Part.of("classify"),
)


def test_json_gives_the_same_genotype_back() -> None:
    again = Genotype.from_data(json.loads(json.dumps(SMALL.to_data())))
    assert again == SMALL
    assert (again.id, hash(again)) == (SMALL.id, hash(SMALL))


def test_the_id_is_the_hash_of_the_canonical_text() -> None:
    text = (
        '{"dims":2,"head":{"name":"classify"},"stages":['
        '{"blocks":[{"channel":{"name":"mlp","ratio":2},"layer_scale":null,"mixer":{"kernel":5,"name":"dwconv"},'
        '"residual":"each"},{"channel":{"name":"mlp","ratio":2},"layer_scale":null,"mixer":'
        '{"name":"linear_attention"},"residual":"each"}],"dim":8,"down":null},'
        '{"blocks":[{"channel":{"name":"mlp","ratio":2},"layer_scale":1e-06,"mixer":'
        '{"name":"dwconv","norm":"none"},"residual":"joint"}],"dim":16,"down":{"name":"merge"}}],'
        '"stem":{"name":"conv","stride":2}}'
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:10] == SMALL.id == "f667e9f9fa"


def test_the_order_in_which_knobs_are_written_does_not_matter() -> None:
    one, other = Part.of("dwconv", kernel=5, norm="none"), Part.of("dwconv", norm="none", kernel=5)
    assert one == other == Part.of("dwconv", norm="none").having(kernel=5)
    assert str(one) == "dwconv(kernel=5, norm=none)"
    assert str(Part.of("dwconv")) == "dwconv"


@pytest.mark.parametrize("knob", ["cls", "self", "knobs", "where"])
def test_any_name_can_be_a_knob(knob: str) -> None:
    part = Part.of("dwconv", **{knob: 1})
    assert Part.from_data(part.to_data(), "x") == part


def test_mixers_are_named_per_stage() -> None:
    assert SMALL.mixers == ("dwconv+linear_attention", "dwconv")


def test_what_may_be_left_out_has_its_default() -> None:
    data = SMALL.to_data()
    for block in data["stages"][0]["blocks"]:
        del block["residual"], block["layer_scale"]
    del data["stages"][0]["down"]
    assert Genotype.from_data(data) == SMALL


def test_a_whole_number_as_layer_scale_is_the_same_number_as_a_fraction() -> None:
    data = SMALL.to_data()
    data["stages"][0]["blocks"][0]["layer_scale"] = 1
    other = copy.deepcopy(data)
    other["stages"][0]["blocks"][0]["layer_scale"] = 1.0
    one, same = Genotype.from_data(data), Genotype.from_data(other)
    assert isinstance(one.stages[0].blocks[0].layer_scale, float)
    assert (one, one.id) == (same, same.id)


def test_a_stage_may_have_lost_all_its_blocks_to_pruning() -> None:
    data = SMALL.to_data()
    data["stages"][1]["blocks"] = []
    assert Genotype.from_data(data).stages[1].blocks == ()


def put(*path: str | int, value: Any) -> Callable[[dict[str, Any]], Any]:
    """Genotype data with one value replaced."""

    def change(data: dict[str, Any]) -> Any:
        inside: Any = data
        for key in path[:-1]:
            inside = inside[key]
        inside[path[-1]] = value
        return data

    return change


def drop(*path: str | int) -> Callable[[dict[str, Any]], Any]:
    """Genotype data without one key."""

    def change(data: dict[str, Any]) -> Any:
        inside: Any = data
        for key in path[:-1]:
            inside = inside[key]
        del inside[path[-1]]
        return data

    return change


BLOCK = ("stages", 0, "blocks", 0)
WRONG: list[tuple[Callable[[dict[str, Any]], Any], str, str]] = [
    (lambda data: [data], "g", "expected named values, got [{"),
    (lambda data: None, "g", "expected named values, got None"),
    (lambda data: {**data, 7: 1}, "g", "expected named values"),
    (drop("stem"), "g", "'stem' is missing.\n  Keys seen: dims, head, stages"),
    (put("heads", value={}), "g", "unknown key 'heads'.\n  Did you mean 'head'? Known: dims, head, stages, stem"),
    (put("dims", value=4), "g.dims", "expected 2 or 3, got 4"),
    (put("dims", value=2.0), "g.dims", "expected 2 or 3, got 2.0"),
    (put("dims", value=True), "g.dims", "expected 2 or 3, got True"),
    (put("dims", value=[2]), "g.dims", "expected 2 or 3, got [2]"),
    (put("stem", value="conv"), "g.stem", "expected named values, got 'conv'"),
    (put("stem", value={"stride": 2}), "g.stem", "'name' is missing.\n  Keys seen: stride"),
    (put("stem", value={"name": 3}), "g.stem.name", "expected a name, got 3"),
    (put("stem", "stride", value=[2]), "g.stem.stride", "expected a single value, got [2]"),
    (put("stem", "stride", value={"choice": [1]}), "g.stem.stride", "expected a single value, got {'choice': [1]}"),
    (put("stem", "stride", value=float("nan")), "g.stem.stride", "expected a single value, got nan"),
    (put("head", value=None), "g.head", "expected named values, got None"),
    (put("stages", value={}), "g.stages", "expected a list, got {}"),
    (put("stages", value=[]), "g.stages", "expected a list, got []"),
    (put("stages", 1, value=8), "g.stages[1]", "expected named values, got 8"),
    (drop("stages", 1, "blocks"), "g.stages[1]", "'blocks' is missing"),
    (put("stages", 1, "depth", value=2), "g.stages[1]", "unknown key 'depth'"),
    (put("stages", 1, "dim", value=0), "g.stages[1].dim", "expected a number of channels, at least 1, got 0"),
    (put("stages", 1, "dim", value=8.0), "g.stages[1].dim", "expected a number of channels, at least 1, got 8.0"),
    (put("stages", 1, "dim", value=True), "g.stages[1].dim", "expected a number of channels, at least 1, got True"),
    (put("stages", 1, "down", value=None), "g.stages[1].down", "the first stage has no downsampling"),
    (put("stages", 0, "down", value={"name": "merge"}), "g.stages[0].down", "the first stage has no downsampling"),
    (put("stages", 1, "down", value="merge"), "g.stages[1].down", "expected named values, got 'merge'"),
    (put("stages", 0, "blocks", value=2), "g.stages[0].blocks", "expected a list, got 2"),
    (put(*BLOCK, value=[]), "g.stages[0].blocks[0]", "expected named values, got []"),
    (drop(*BLOCK, "mixer"), "g.stages[0].blocks[0]", "'mixer' is missing"),
    (put(*BLOCK, "mixr", value={}), "g.stages[0].blocks[0]", "unknown key 'mixr'.\n  Did you mean 'mixer'?"),
    (put(*BLOCK, "residual", value="none"), "g.stages[0].blocks[0].residual", "expected 'each' or 'joint', got 'none'"),
    (
        put(*BLOCK, "residual", value=["each"]),
        "g.stages[0].blocks[0].residual",
        "expected 'each' or 'joint', got ['each",
    ),
    (put(*BLOCK, "layer_scale", value="1"), "g.stages[0].blocks[0].layer_scale", "expected a number, got '1'"),
    (put(*BLOCK, "layer_scale", value=True), "g.stages[0].blocks[0].layer_scale", "expected a number, got True"),
    (put(*BLOCK, "layer_scale", value=float("inf")), "g.stages[0].blocks[0].layer_scale", "expected a number, got inf"),
    (put(*BLOCK, "mixer", value={"kernel": 3}), "g.stages[0].blocks[0].mixer", "'name' is missing"),
]


@pytest.mark.parametrize(
    ("change", "where", "problem"), WRONG, ids=[f"{where} {text[:30]}" for _, where, text in WRONG]
)
def test_what_is_out_of_shape_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], Any], where: str, problem: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        Genotype.from_data(change(SMALL.to_data()), "g")
    assert caught.value.where == where
    assert str(caught.value).startswith(f"{where}: {problem}")
