"""Networks of a fixed seed give what they have always given: names of parts are not what is computed.

The numbers are the first outputs of each network and the mean of their absolute values, written down before the parts
of a block had names.  Torch's generator draws weights in the order in which parts are made, so that order is held too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from medsearch.backbones import Interface, build
from medsearch.core.config import read_yaml
from medsearch.core.library import find
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.spaces.tree import variants

INTERFACES = {
    "classification": Interface(task="classification", channels=2, outputs=3),
    "segmentation": Interface(task="segmentation", channels=2, outputs=3),
    "denoising": Interface(task="denoising", channels=2, outputs=2),
}
MLP, DWCONV, ATTENTION = Part.of("mlp", ratio=2), Part.of("dwconv", kernel=3), Part.of("linear_attention", head_dim=8)
Case = tuple[Genotype, str]


def genotype(*blocks: Block, head: Part | None = None) -> Genotype:
    """Two stages with the same blocks."""
    stages = (Stage(16, blocks), Stage(32, blocks, Part.of("conv3s2")))
    return Genotype(2, Part.of("conv", stride=2), stages, head or Part.of("classify"))


def mixers() -> Iterator[tuple[str, Case]]:
    """Every mixer of a shipped space."""
    for _, option in variants(read_yaml(find("spaces", "hybrid2d-tiny"))["stages"][0]["mixer"], ""):
        knobs = {knob: first(value) for knob, value in option.items() if knob != "name"}
        mixer = Part.of(option["name"], **knobs)
        yield mixer.name, (genotype(Block(mixer, Part.of("conv_mlp", ratio=2))), "classification")


def first(value: object) -> object:
    return value["choice"][0] if isinstance(value, dict) else value


def blocks() -> Iterator[tuple[str, Case]]:
    """What a block may have besides."""
    both = {"position": DWCONV, "local": Part.of("local_concentration")}
    laid: dict[str, list[Block]] = {
        "layer scale": [Block(ATTENTION, MLP, layer_scale=0.5)],
        "joint": [Block(ATTENTION, MLP, "joint"), Block(DWCONV, MLP)],
        "joint, layer scale": [Block(DWCONV, MLP, "joint", 0.5)],
        "position and local": [Block(ATTENTION, MLP, layer_scale=0.5, **both)],
        "joint, position and local": [Block(ATTENTION, MLP, "joint", 0.5, **both)],
        "joint of one": [Block(ATTENTION, Part.of("none"), "joint", 0.5)],
        "nothing in a block": [Block(Part.of("identity"), Part.of("none")), Block(ATTENTION, MLP)],
    }
    yield from ((name, (genotype(*some), "classification")) for name, some in laid.items())


def heads() -> Iterator[tuple[str, Case]]:
    """A head with blocks of its own, and what a denoiser adds to its head."""
    block = Block(ATTENTION, MLP, layer_scale=0.5, position=DWCONV)
    yield "mirrored", (genotype(block, Block(DWCONV, MLP, "joint"), head=Part.of("mirrored_add_gate")), "segmentation")
    yield "denoising", (genotype(block, head=Part.of("pyramid", dim=8, detail=8)), "denoising")


CASES: dict[str, Case] = {**dict(mixers()), **dict(blocks()), **dict(heads())}
EXPECTED: dict[str, list[float]] = {
    "dwconv": [-0.288461, 0.332681, -0.948723, 0.487649],
    "gnconv": [0.29999, -0.0279149, 0.198183, 0.147977],
    "linear_attention": [0.913258, 0.0462404, 0.00173387, 0.380934],
    "window_attention": [-0.687392, -0.528689, -0.0117304, 0.480797],
    "pooled_attention": [0.809082, 0.519408, -0.137332, 0.428564],
    "region_topk_attention": [0.512672, -0.222449, -0.566866, 0.353246],
    "block_gmlp": [-0.471849, 0.63035, -0.186517, 0.379938],
    "grid_gmlp": [-0.472596, 0.631267, -0.185643, 0.380328],
    "axial_shift": [-0.400491, 0.0304356, 0.154198, 0.279886],
    "layer scale": [0.372167, 0.697104, -0.0340551, 0.473825],
    "joint": [-0.67376, 0.0102534, -0.334969, 0.344785],
    "joint, layer scale": [-0.0859589, -0.852081, 0.0323236, 0.306644],
    "position and local": [0.647567, -0.134742, 1.10409, 0.577141],
    "joint, position and local": [-0.111312, 0.146141, 0.332467, 0.258758],
    "joint of one": [0.364434, -0.588394, -0.131613, 0.353828],
    "nothing in a block": [0.641657, 0.737831, -0.488443, 0.654604],
    "mirrored": [-0.0255988, -0.0283836, -0.0311684, 0.0863169],
    "denoising": [-0.343363, -0.328774, -0.287946, 0.656175],
}


def outputs(case: Case) -> list[float]:
    architecture, task = case
    torch.manual_seed(0)
    network = build(architecture, INTERFACES[task]).eval()
    network.standardize.mean.fill_(0.25)
    network.standardize.std.fill_(2.0)
    image_BCS = torch.linspace(0, 40, 2 * 2 * 14 * 18).sin().reshape(2, 2, 14, 18)
    with torch.no_grad():
        y = network(image_BCS)
    return [*y.flatten()[:3].tolist(), y.abs().mean().item()]


@pytest.mark.parametrize("name", CASES)
def test_a_fixed_seed_gives_the_outputs_that_it_gave(name: str) -> None:
    assert outputs(CASES[name]) == pytest.approx(EXPECTED[name], rel=1e-3, abs=1e-5)
