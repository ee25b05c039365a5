"""From genotype to network: exact published points, errors that name their gene, and source that makes the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from medsearch.backbones import (
    Call,
    Denoiser,
    Interface,
    Network,
    ResidualBlock,
    Standardize,
    build,
    check,
    plan,
)
from medsearch.backbones import Stage as StageModule
from medsearch.blocks import CHANNELS, DOWNSAMPLES, HEADS, MIXERS, STEMS
from medsearch.core.config import parse_yaml, read_yaml
from medsearch.core.errors import SpaceError
from medsearch.core.library import find, names
from medsearch.spaces import Block, Genotype, Part, Space, Stage, read_space

CLASSES = Interface(task="classification", channels=1, outputs=3)
SHIPPED = [(name, task) for name in names("spaces") for task in read_yaml(find("spaces", name))["heads"]]

TINY = """\
name: tiny
dims: 2
stem: conv
heads: {classification: classify, segmentation: {name: pyramid, dim: 8}, denoising: classify}
stages:
  - {dim: 8, mixer: {choice: [linear_attention, {name: dwconv, kernel: {choice: [3, 5]}}]}, channel: mlp}
  - {dim: 16, depth: 2, mixers: [dwconv, {name: window_attention, window: 4}], channel: {name: mlp, ratio: 2}}
"""


def shipped(name: str, task: str = "classification") -> Space:
    return read_space(read_yaml(find("spaces", name)), name, task=task)


def read(text: str, task: str = "classification") -> Space:
    return read_space(parse_yaml(text, "tiny.yaml").value, "tiny.yaml", task=task)


@pytest.mark.parametrize(("name", "parameters"), [("convnext-t", 28_589_128), ("swin-t", 28_288_354)])
def test_a_point_named_after_a_paper_has_its_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build(shipped(name).first(), Interface(task="classification", channels=3, outputs=1000))
    assert sum(p.numel() for p in network.parameters()) == parameters


def refused(space: Space, interface: Interface) -> str:
    """Why, or nothing."""
    try:
        check(space, interface)
    except SpaceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("name", "task"), SHIPPED)
def test_every_shipped_space_is_free_of_wrong_parts(name: str, task: str) -> None:
    assert refused(shipped(name, task), Interface(task=task, channels=1, outputs=1)) == ""


def known(registry: Iterable[str]) -> str:
    return f"Known: {', '.join(sorted(registry))}."


PLUGIN = "  A part of your own package: medsearch --plugin yourpackage.module ..."
WRONG = [
    # what is written, in place of what, and the whole error behind the name of the file
    (
        "linear_atention",
        "linear_attention",
        "stages[0].mixer.choice[0]: unknown token mixer 'linear_atention'.\n"
        f"  Did you mean 'linear_attention'? {known(MIXERS)}{PLUGIN}",
    ),
    (
        "{name: dwcov,",
        "{name: dwconv,",
        f"stages[0].mixer.choice[1]: unknown token mixer 'dwcov'.\n  Did you mean 'dwconv'? {known(MIXERS)}{PLUGIN}",
    ),
    (
        "kernal:",
        "kernel:",
        "stages[0].mixer.choice[1].kernal: 'dwconv' has no knob 'kernal'.\n"
        f"  Did you mean 'kernel'? {known(MIXERS.knobs('dwconv'))}",
    ),
    (
        "window: {choice",
        "kernel: {choice",
        f"stages[0].mixer.choice[1].window: 'dwconv' has no knob 'window'.\n  {known(MIXERS.knobs('dwconv'))}",
    ),
    ("[3, 4]", "[3, 5]", "stages[0].mixer.choice[1].kernel: dwconv: kernel must be odd to keep the size, got 4; try 5"),
    (
        "window: 0",
        "window: 4",
        "stages[1].mixers[1]: window_attention: window must be a whole number of at least 1, got 0; try 1",
    ),
    ("ratio: two", "ratio: 2", "stages[1].channel: mlp: hidden width must be at least 1, got ratio 'two'"),
    ("ratio: 0.01", "ratio: 2", "stages[1].channel: mlp: hidden width must be at least 1, got ratio 0.01"),
    ("stem: cnov", "stem: conv", f"stem: unknown stem 'cnov'.\n  Did you mean 'conv'? {known(STEMS)}{PLUGIN}"),
    ("stem: {name: conv, stride: 3}", "stem: conv", "stem: conv stem: stride must be"),
    ("stem: {name: conv, stride: two}", "stem: conv", "stem: conv stem: stride must be"),
    (
        "stem: {name: conv, dims: 3}",
        "stem: conv",
        f"stem.dims: 'conv' has no knob 'dims'.\n  {known(STEMS.knobs('conv'))}",
    ),
    (
        "mpl, ratio",
        "mlp, ratio",
        f"stages[1].channel: unknown channel mixer 'mpl'.\n  Did you mean 'mlp'? {known(CHANNELS)}{PLUGIN}",
    ),
    (
        "{down: mrege, dim: 16",
        "{dim: 16",
        f"stages[1].down: unknown downsampling 'mrege'.\n  Did you mean 'merge'? {known(DOWNSAMPLES)}{PLUGIN}",
    ),
    (
        "position: dwcov, dim: 16",
        "dim: 16",
        f"stages[1].position: unknown token mixer 'dwcov'.\n  Did you mean 'dwconv'? {known(MIXERS)}{PLUGIN}",
    ),
    (
        "{classification: clasify",
        "{classification: classify",
        f"heads.classification: unknown head 'clasify'.\n  Did you mean 'classify'? {known(HEADS)}{PLUGIN}",
    ),
    (
        "{classification: pyramid",
        "{classification: classify",
        "heads.classification: 'pyramid' is not a head for classification.\n  Known: classify",
    ),
]


@pytest.mark.parametrize(("seen", "instead", "message"), WRONG, ids=[seen for seen, *_ in WRONG])
def test_a_wrong_part_is_refused_with_file_place_and_suggestion(seen: str, instead: str, message: str) -> None:
    assert TINY.count(instead) == 1
    with pytest.raises(SpaceError) as caught:
        check(read(TINY.replace(instead, seen)), CLASSES)
    assert str(caught.value).startswith(f"tiny.yaml: {message}")


def test_a_part_is_tried_at_every_width_of_its_stage() -> None:
    text = TINY.replace("dim: 16", "dim: {choice: [16, 18]}").replace("window: 4}", "window: 4, heads: 4}")
    with pytest.raises(SpaceError, match=r"stages\[1\].mixers\[1\]: window_attention: heads must divide the width 18"):
        check(read(text), CLASSES)


def test_a_window_larger_than_the_map_is_refused_where_the_image_size_is_said() -> None:
    # 20 pixels: the stem halves them to 10, the downsampling to 5.
    text = TINY.replace("dims: 2", "dims: 2\nsize: [20, 24]")
    check(read(text), CLASSES)
    check(read(TINY.replace("window: 4", "window: 7")), CLASSES)
    with pytest.raises(
        SpaceError, match=r"window_attention: window 7 is larger than the map of this stage, 5x6"
    ) as caught:
        check(read(text.replace("window: 4", "window: 7")), CLASSES)
    assert (caught.value.where, caught.value.remedy) == (
        "tiny.yaml: stages[1].mixers[1]",
        "The largest that fits is 5.",
    )


REDUCED = """\
name: reduced
dims: 2
stem: patch
down: keep_and_fuse
heads: {classification: classify}
stages:
  - {dim: 16, mixer: dwconv, channel: mlp}
  - {dim: 16, mixer: {name: full_attention, local: 0}, channel: mlp}
  - {dim: 24, mixer: identity, channel: mlp, down: none}
"""


def test_after_token_reduction_there_are_no_neighbours() -> None:
    check(read(REDUCED), CLASSES)
    for wrong in ("dwconv", "full_attention", "{name: full_attention, local: 0}, position: dwconv"):
        text = REDUCED.replace("identity", wrong)
        with pytest.raises(SpaceError, match=r"stages\[2\].blocks\[0\].*needs neighbours") as caught:
            plan(read(text).first(), CLASSES)
        assert "full_attention(local=0)" in caught.value.remedy


def test_a_head_of_another_task_is_refused_with_those_that_fit() -> None:
    with pytest.raises(
        SpaceError, match=r"heads.denoising: 'classify' is not a head for denoising\.\n  Known: .*pyramid"
    ):
        check(read(TINY, "denoising"), Interface(task="denoising", channels=1, outputs=1))


def test_building_names_the_genotype_where_there_is_no_file() -> None:
    block = Block(Part.of("dwconv", kernel=2), Part.of("mlp"))
    genotype = Genotype(2, Part.of("conv"), (Stage(8, (block,)),), Part.of("classify"))
    with pytest.raises(SpaceError, match="^model.pt: dwconv: kernel must be odd"):
        build(genotype, CLASSES, where="model.pt")
    with pytest.raises(SpaceError, match="^genotype: dwconv: kernel must be odd"):
        build(genotype, CLASSES)


def test_blocks_are_branches_of_their_own_or_one_together() -> None:
    mixer, channel = Part.of("linear_attention"), Part.of("mlp")
    each, joint = Block(mixer, channel), Block(mixer, channel, "joint", 1e-6)
    genotype = Genotype(2, Part.of("conv"), (Stage(8, (each, joint)),), Part.of("classify"))
    first, second, together = plan(genotype, CLASSES).stages[0].parts
    assert [call.target for call in (first, second, together)] == [ResidualBlock] * 3
    assert set(dict(first.kwargs)) == {"dims", "mixer"} and set(dict(second.kwargs)) == {"dims", "channel"}
    assert dict(first.kwargs)["mixer"].target is MIXERS["linear_attention"]
    assert dict(second.kwargs)["channel"].target is CHANNELS["mlp"]
    assert list(dict(together.kwargs)) == ["dims", "mixer", "channel", "joint", "layer_scale"]
    assert dict(together.kwargs)["layer_scale"] == 1e-6


def test_equal_branches_are_equal_calls_whatever_their_role() -> None:
    filters = Part.of("dwconv", kernel=3)
    block = Block(filters, Part.of("mlp"), position=filters, local=filters)
    genotype = Genotype(2, Part.of("conv"), (Stage(8, (block, block)),), Part.of("classify"))
    parts = plan(genotype, CLASSES).stages[0].parts
    assert len(parts) == 8 and len(set(parts)) == 2


FILTERS, SCALE = Part.of("dwconv", kernel=3), 0.5
BLOCKS = {
    # a block, and the names of its own parameters
    "each": (Block(FILTERS, Part.of("mlp")), []),
    "each, scaled": (Block(FILTERS, Part.of("mlp"), layer_scale=SCALE), ["mixer_scale", "channel_scale"]),
    "joint, scaled": (Block(FILTERS, Part.of("mlp"), "joint", SCALE), ["joint_scale"]),
    "all, scaled": (Block(FILTERS, Part.of("mlp"), "each", SCALE, FILTERS, FILTERS), ["mixer_scale", "channel_scale"]),
    "all, joint": (Block(FILTERS, Part.of("mlp"), "joint", SCALE, FILTERS, FILTERS), []),
    "joint of one": (Block(FILTERS, Part.of("none"), "joint", SCALE), ["mixer_scale"]),
    "local alone": (Block(Part.of("identity"), Part.of("none"), "each", SCALE, local=FILTERS), []),
    "nothing": (Block(Part.of("identity"), Part.of("none"), "joint", SCALE), []),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_measured_of_a_block_is_what_the_block_computes(name: str) -> None:
    """Branch by branch, with the weights of the block; the scales stand beside the parts."""
    block, scales = BLOCKS[name]
    genotype = Genotype(2, Part.of("conv"), (Stage(8, (block,)),), Part.of("classify"))
    planned = plan(genotype, CLASSES).stages[0]
    whole, alone = planned.blocks[0].make(), [call.make() for call in planned.parts]
    for parameter in whole.parameters():
        nn.init.normal_(parameter)
    assert [name for name, _ in whole.named_parameters(recurse=False)] == scales
    for theirs, ours in zip((p for branch in alone for p in _by_branch(branch)), _by_branch(whole), strict=True):
        theirs.data.copy_(ours)
    x_BCS = torch.randn(2, 8, 6, 5)
    assert torch.equal(nn.Sequential(*alone).eval()(x_BCS), whole.eval()(x_BCS))


def _by_branch(block: nn.Module) -> list[nn.Parameter]:
    """The parameters in the order of the data, each scale behind its part."""
    named = dict(block.named_parameters())
    found = []
    for role in ("position", "mixer", "local", "channel"):
        found += [parameter for name, parameter in named.items() if name.startswith(f"{role}.")]
        found += [named[f"{role}_scale"]] if f"{role}_scale" in named else []
    return found + ([named["joint_scale"]] if "joint_scale" in named else [])


@pytest.mark.parametrize(
    ("mixer", "norm"), [("dwconv", "batch"), ("linear_attention", "layer"), ("grid_gmlp", "layer")]
)
def test_the_channel_mixer_normalises_as_the_token_mixer_does_unless_told(mixer: str, norm: str) -> None:
    def norm_of(channel: Part) -> Any:
        stages = (Stage(8, (Block(Part.of(mixer), channel),)),)
        call = plan(Genotype(2, Part.of("conv"), stages, Part.of("classify")), CLASSES).stages[0].blocks[0]
        return dict(dict(call.kwargs)["channel"].kwargs)["norm"]

    assert norm_of(Part.of("mlp")) == norm
    assert norm_of(Part.of("mlp", norm="layer")) == "layer"


def test_a_stage_without_blocks_passes_its_input_on() -> None:
    stages = (Stage(8, ()), Stage(16, (), Part.of("conv3s2")))
    network = build(Genotype(2, Part.of("conv"), stages, Part.of("classify")), CLASSES)
    assert [feature.shape for feature in network.features(torch.randn(2, 1, 16, 16))] == [(2, 8, 8, 8), (2, 16, 4, 4)]
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 3)


@pytest.mark.parametrize(("name", "task"), SHIPPED)
def test_the_source_of_a_plan_makes_the_same_network(name: str, task: str) -> None:
    space, interface = shipped(name, task), Interface(task=task, channels=2, outputs=2)
    parts = {part.__name__: part for kind in (MIXERS, CHANNELS, STEMS, DOWNSAMPLES, HEADS) for part in kind.values()}
    parts |= {part.__name__: part for part in (Network, Denoiser, ResidualBlock, StageModule, Standardize)}
    call = plan(space.first(), interface).call()
    with torch.device("meta"):
        made, read_back = call.make(), eval(call.source(), {"nn": nn, **parts})
    assert str(read_back) == str(made)
    assert {key: value.shape for key, value in read_back.state_dict().items()} == {
        key: value.shape for key, value in made.state_dict().items()
    }


def test_a_call_is_written_on_one_line_where_it_fits_and_on_several_where_not() -> None:
    short = Call(nn.Linear, (3, 4), (("bias", False),))
    assert short.source() == "nn.Linear(3, 4, bias=False)"
    assert Call(nn.Sequential, (short,)).source() == "nn.Sequential(nn.Linear(3, 4, bias=False))"
    assert Call(nn.Sequential, (short,)).source(width=30) == "nn.Sequential(\n    nn.Linear(3, 4, bias=False),\n)"
    assert Call(Standardize, ("x",), (("parts", [short]),)).source() == (
        "Standardize(\n    'x',\n    parts=[\n        nn.Linear(3, 4, bias=False),\n    ],\n)"
    )
