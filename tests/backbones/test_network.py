"""Networks drawn from the shipped spaces: they run and learn in 2D and 3D, image by image, in the image's own units."""

from __future__ import annotations

import json
import random

import pytest
import torch
from torch import nn

from medsearch.backbones import Denoiser, Interface, Network, ResidualBlock, Standardize, build
from medsearch.blocks import CHANNELS, DOWNSAMPLES, MIXERS
from medsearch.core.config import read_yaml
from medsearch.core.library import find, names
from medsearch.spaces import Block, Genotype, Part, Stage, read_space

DRAWS = 6
MANY = 1000
SIZES = {2: (13, 18), 3: (9, 6, 7)}
INTERFACES = {
    "classification": Interface(task="classification", channels=2, outputs=5),
    "segmentation": Interface(task="segmentation", channels=2, outputs=3),
    "denoising": Interface(task="denoising", channels=2, outputs=2),
}
SPACES = [name for name in names("spaces") if "published" not in read_yaml(find("spaces", name))]
SEARCHED = [(name, task) for name in SPACES for task in INTERFACES]
SMALL = Genotype(
    dims=2,
    stem=Part.of("conv"),
    stages=(Stage(8, (Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2)),)),),
    head=Part.of("pyramid", dim=8, detail=8),
)


def drawn(name: str, task: str, count: int) -> list[Genotype]:
    space, rng = read_space(read_yaml(find("spaces", name)), name, task=task), random.Random(f"{name} {task}")
    return [space.sample(rng) for _ in range(count)]


def without_gradient(genotype: Genotype, task: str, size: tuple[int, ...]) -> list[str]:
    """Weights of a network that learn nothing from an image, by name, its output and kind checked on the way."""
    network = build(genotype, INTERFACES[task])
    output = network(torch.rand(2, 2, *size))
    outputs = INTERFACES[task].outputs
    assert output.shape == ((2, outputs) if task == "classification" else (2, outputs, *size)), genotype
    assert type(network) is (Denoiser if task == "denoising" else Network)
    output.square().mean().backward()
    found = {name: parameter.grad for name, parameter in network.named_parameters()}
    return [name for name, gradient in found.items() if gradient is None or not gradient.isfinite().all()]


@pytest.mark.parametrize(("name", "task"), SEARCHED)
def test_every_network_of_a_shipped_space_runs_and_learns(name: str, task: str) -> None:
    for i, genotype in enumerate(drawn(name, task, DRAWS)):
        size = SIZES[genotype.dims] if i % 2 else (1,) * genotype.dims
        assert without_gradient(genotype, task, size) == [], genotype


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_a_thousand_networks_of_a_shipped_space_run_and_learn_on_the_smallest_image(name: str) -> None:
    for genotype in drawn(name, "classification", MANY):
        assert Genotype.from_data(json.loads(json.dumps(genotype.to_data()))) == genotype
        assert without_gradient(genotype, "classification", (1,) * genotype.dims) == [], genotype


@pytest.mark.parametrize(("name", "task"), SEARCHED)
def test_one_image_alone_gives_what_it_gives_in_a_batch(name: str, task: str) -> None:
    for genotype in drawn(name, task, 2):
        network = build(genotype, INTERFACES[task]).eval()
        image_BCS = torch.rand(3, 2, *SIZES[genotype.dims])
        with torch.no_grad():
            together = network(image_BCS)
            alone = torch.cat([network(image_BCS[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * float(together.abs().max()))


def test_a_seed_makes_the_weights() -> None:
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(build(SMALL, INTERFACES["segmentation"]).stem.layers[0].weight)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_standardize_takes_mean_and_deviation_of_each_channel_away_and_gives_them_back() -> None:
    standardize = Standardize(2, dims=3)
    standardize.mean.copy_(torch.tensor([100.0, -5.0]).reshape(2, 1, 1, 1))
    standardize.std.copy_(torch.tensor([50.0, 0.5]).reshape(2, 1, 1, 1))
    raw_BCS = torch.tensor([150.0, -4.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 2, 3, 4)
    plain_BCS = standardize(raw_BCS)
    assert torch.equal(plain_BCS, torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 2, 3, 4))
    assert torch.equal(standardize.restore(plain_BCS), raw_BCS)
    assert set(standardize.state_dict()) == {"mean", "std"} and not list(standardize.parameters())


def test_a_denoiser_that_predicts_nothing_gives_the_image_back_in_raw_intensities() -> None:
    network = build(SMALL, Interface(task="denoising", channels=1, outputs=1)).eval()
    network.standardize.mean.fill_(1000.0)
    network.standardize.std.fill_(250.0)
    for parameter in network.head.predict.parameters():
        nn.init.zeros_(parameter)
    image_BCS = 1000 + 250 * torch.randn(2, 1, 12, 10)
    torch.testing.assert_close(network(image_BCS), image_BCS)
    # A head that says "two deviations more" everywhere: 2 * 250 intensities more.
    nn.init.constant_(network.head.predict.bias, 2.0)
    torch.testing.assert_close(network(image_BCS), image_BCS + 500)


def test_a_denoiser_does_the_same_in_other_units() -> None:
    network = build(SMALL, Interface(task="denoising", channels=1, outputs=1)).eval()
    image_BCS = torch.randn(2, 1, 12, 10)
    plain_BCS = network(image_BCS)
    network.standardize.mean.fill_(40.0)
    network.standardize.std.fill_(8.0)
    torch.testing.assert_close(network(40 + 8 * image_BCS), 40 + 8 * plain_BCS)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_block_adds_its_branches_scaled_where_it_is_told_to(dims: int) -> None:
    x_BCS = torch.randn(2, 3, *SIZES[dims])
    assert torch.equal(ResidualBlock(3, dims=dims, position=nn.Identity())(x_BCS), 2 * x_BCS)
    scaled = ResidualBlock(3, dims=dims, mixer=nn.Identity(), layer_scale=0.5)
    assert torch.equal(scaled(x_BCS), 1.5 * x_BCS)
    nn.init.zeros_(scaled.mixer_scale[1])
    assert torch.equal(scaled(x_BCS)[:, 1], x_BCS[:, 1])
    every = dict.fromkeys(("position", "mixer", "local", "channel"), nn.Identity())
    assert torch.equal(ResidualBlock(3, dims=dims, **every)(x_BCS), 16 * x_BCS)
    assert torch.equal(ResidualBlock(3, dims=dims, joint=True, **every)(x_BCS), 4 * x_BCS)
    # Scaled branches of mixer and channel mixer: 2 * 1.5 * 2 * 1.5.
    torch.testing.assert_close(ResidualBlock(3, dims=dims, layer_scale=0.5, **every)(x_BCS), 9 * x_BCS)
    assert torch.equal(ResidualBlock(3, dims=dims)(x_BCS), x_BCS)


FULL = Block(Part.of("dwconv"), Part.of("mlp"), "each", 0.5, Part.of("dwconv"), Part.of("local_concentration"))
MIRRORED = Genotype(
    dims=2,
    stem=Part.of("conv"),
    stages=(Stage(8, (FULL,)), Stage(16, (SMALL.stages[0].blocks[0], FULL), Part.of("conv3s2"))),
    head=Part.of("mirrored_add_gate"),
)


def test_every_part_stands_under_its_name() -> None:
    network = build(MIRRORED, INTERFACES["segmentation"])
    kinds = {
        "stages.1.down": DOWNSAMPLES["conv3s2"],
        "stages.1.blocks.0.mixer": MIXERS["dwconv"],
        "stages.1.blocks.1.position": MIXERS["dwconv"],
        "stages.1.blocks.1.mixer": MIXERS["dwconv"],
        "stages.1.blocks.1.local": MIXERS["local_concentration"],
        "stages.1.blocks.1.channel": CHANNELS["mlp"],
        "head.mirrors.0.blocks.0.position": MIXERS["dwconv"],
        "head.mirrors.0.blocks.0.channel": CHANNELS["mlp"],
    }
    assert {name: type(network.get_submodule(name)) for name in kinds} == kinds
    assert network.get_parameter("stages.1.blocks.1.mixer_scale").shape == (16, 1, 1)
    assert network.get_parameter("head.mirrors.0.blocks.0.channel_scale").shape == (8, 1, 1)
    assert network.stages[0].down is None and network.stages[1].blocks[0].position is None
    assert len(network.head.mirrors) == 1


def test_features_are_those_of_the_raw_image_that_the_network_takes() -> None:
    network = build(MIRRORED, INTERFACES["segmentation"]).eval()
    network.standardize.mean.fill_(40.0)
    network.standardize.std.fill_(8.0)
    seen: dict[str, torch.Tensor] = {}
    for name in network.feature_info.module_name():
        network.get_submodule(name).register_forward_hook(
            lambda _, given, map_BCS, name=name: seen.update({name: map_BCS})
        )
    image_BCS = 40 + 8 * torch.randn(1, 2, 16, 24)
    network(image_BCS)
    expected = list(seen.values())
    for ours, theirs in zip(network.features(image_BCS), expected, strict=True):
        assert torch.equal(ours, theirs)


STRIDES = [
    # dims, stem, downsampling, strides of the two stages
    (2, Part.of("conv", stride=2), Part.of("conv3s2"), [2, 4]),
    (2, Part.of("patch", patch=14), Part.of("none"), [14, 14]),
    (3, Part.of("conv", stride="1x2x2"), Part.of("merge", stride="1x2x2"), [(1, 2, 2), (1, 4, 4)]),
    (3, Part.of("conv", stride="1x2x2"), Part.of("merge", stride="4x2x2"), [(1, 2, 2), 4]),
    (2, Part.of("patch", patch="4x6"), Part.of("keep_and_fuse"), [(4, 6), None]),
]


@pytest.mark.parametrize(("dims", "stem", "down", "strides"), STRIDES)
def test_the_network_says_channels_and_strides_of_its_features(
    dims: int, stem: Part, down: Part, strides: list[object]
) -> None:
    block = Block(Part.of("full_attention", head_dim=4), Part.of("mlp"))
    genotype = Genotype(dims, stem, (Stage(8, (block,)), Stage(12, (), down)), Part.of("classify"))
    network = build(genotype, INTERFACES["classification"]).eval()
    info, size = network.feature_info, (96, 96) if dims == 2 else (16, 32, 32)
    assert (info.channels(), info.reduction()) == ([8, 12], strides)
    features = network.features(torch.zeros(1, 2, *size))
    assert [feature.shape[1] for feature in features] == info.channels()
    for feature, steps in zip(features, info.strides, strict=True):
        if steps is not None:
            assert tuple(feature.shape[2:]) == tuple(-(-n // step) for n, step in zip(size, steps, strict=True))
