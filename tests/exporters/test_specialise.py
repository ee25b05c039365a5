"""The written file is that of one network: short, clean, alone, and the same network for any size and class count."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from medsearch.backbones import Interface, Network, build
from medsearch.blocks import CHANNELS, DOWNSAMPLES, HEADS, MIXERS, STEMS
from medsearch.core.config import read_yaml
from medsearch.core.library import find
from medsearch.core.registry import Registry
from medsearch.exporters import module
from medsearch.exporters.facts import run_file
from medsearch.exporters.layout import module_lines, parse
from medsearch.exporters.specialise import specialise
from medsearch.spaces import Block, Genotype, Part, Stage, read_space

TINY = "axial_shift block_gmlp dwconv gnconv grid_gmlp linear_attention pooled_attention region_topk_attention".split()
TINY.append("window_attention")
CONVOLUTIONS = ("dwconv", "gnconv")
FAMILIES = ("dwconv", "grid_gmlp", "linear_attention", "window_attention")
MOST_LINES = {("convolutions", 2): 200, ("convolutions", 3): 230, ("all", 2): 350, ("all", 3): 370}
"""Lines with text: by ``ruff format`` another third are empty, between classes and methods."""
CLASSES = Interface(task="classification", channels=3, outputs=4)
MASKS = Interface(task="segmentation", channels=1, outputs=2)
SIZES = {2: (24, 21), 3: (12, 9, 10)}


@dataclass(frozen=True)
class Written:
    """A network and the file it was written to."""

    mixer: str
    genotype: Genotype
    interface: Interface
    network: Network
    path: Path

    def images(self, count: int = 1) -> torch.Tensor:
        return torch.rand(count, self.interface.channels, *SIZES[self.genotype.dims]) * 255


def trained(genotype: Genotype, interface: Interface) -> Network:
    network = build(genotype, interface)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def loaded(path: Path) -> ModuleType:
    found = ModuleType(path.stem)
    vars(found).update(run_file(compile(path.read_text(encoding="utf-8"), str(path), "exec", dont_inherit=True)))
    return found


def of_one_mixer(dims: int, mixer: str, interface: Interface) -> Genotype:
    """A network of the tiny space with the same mixer everywhere."""
    source = find("spaces", f"hybrid{dims}d-tiny")
    space = read_space(read_yaml(source), str(source), task=interface.task)
    rng = random.Random(0)
    drawn = [block.mixer for _ in range(200) for stage in space.sample(rng).stages for block in stage.blocks]
    part = next(found for found in drawn if found.name == mixer)
    genotype = space.sample(rng)
    stages = tuple(
        Stage(stage.dim, tuple(Block(part, block.channel) for block in stage.blocks), stage.down)
        for stage in genotype.stages
    )
    return Genotype(dims, genotype.stem, stages, genotype.head)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Written]:
    """Every mixer of the tiny spaces classifying in 2D, and one of each family segmenting in 3D."""
    torch.manual_seed(0)
    folder, found = tmp_path_factory.mktemp("written"), []
    for dims, interface, mixers in ((2, CLASSES, TINY), (3, MASKS, FAMILIES)):
        for mixer in mixers:
            genotype = of_one_mixer(dims, mixer, interface)
            network = trained(genotype, interface)
            images = np.random.default_rng(0).integers(0, 255, (1, interface.channels, *SIZES[dims]))
            stem = f"{mixer}_{dims}d"
            path = module.write_module(folder, genotype, interface, network, images, {}, stem=stem)
            found.append(Written(mixer, genotype, interface, network, path))
    return found


def test_the_file_is_short(written: list[Written]) -> None:
    for one in written:
        most = MOST_LINES["convolutions" if one.mixer in CONVOLUTIONS else "all", one.genotype.dims]
        lines = sum(bool(line.strip()) for line in one.path.read_text(encoding="utf-8").splitlines())
        assert lines <= most, f"{one.path.stem}: {lines} lines"


def test_nothing_of_a_search_is_left(written: list[Written]) -> None:
    for one in written:
        text = one.path.read_text(encoding="utf-8")
        for word in ("raise ", "assert ", "Error", "isinstance(", "CONV", "macs", "reach", "__v", "dims="):
            assert word not in text, f"{one.path.stem}: {word}"


def test_the_file_is_clean_by_the_linter_and_formatted(written: list[Written]) -> None:
    files = [str(one.path) for one in written]
    settings = ["--isolated", "--no-cache", "--line-length", "120"]
    for command in (["check", "--select", "E,F,I,UP,B"], ["format", "--diff"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings, *files], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout


def test_the_self_test_needs_torch_alone(written: list[Written], tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.modules['medsearch'] = None\n"
        "for file in sys.argv[1:]:\n"
        "    try:\n"
        "        runpy.run_path(file, run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        assert end.code == 0, file\n"
    )
    command = [sys.executable, "-I", "-c", code, *(str(one.path) for one in written)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={})
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("passed: ") == len(written)


def test_features_are_those_of_the_network_for_raw_images(written: list[Written]) -> None:
    for one in written:
        images = one.images()
        with torch.no_grad():
            seen, expected = loaded(one.path).load().features(images), one.network.features(images)
        assert [tuple(maps.shape[:2]) for maps in seen] == [(1, stage.dim) for stage in one.genotype.stages]
        for maps, others in zip(seen, expected, strict=True):
            torch.testing.assert_close(maps, others, rtol=1e-4, atol=1e-4)


def test_another_number_of_classes_makes_the_last_layer_anew_and_keeps_the_others(written: list[Written]) -> None:
    for one in written:
        file = loaded(one.path)
        network, state = file.load(num_classes=7), one.network.state_dict()
        with torch.no_grad():
            assert network(one.images()).shape[1] == 7
        fresh = [name for name, value in network.state_dict().items() if value.shape != state[name].shape]
        last = "head.linear" if one.interface is CLASSES else "head.predict"
        assert fresh == [f"{last}.weight", f"{last}.bias"]
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items() if k not in fresh)


def test_training_goes_the_same_way(written: list[Written]) -> None:
    for one in written[::4]:
        images, gradients = one.images(2), []
        for network in (loaded(one.path).load(), one.network):
            network.double().train()(images.double()).square().sum().backward()
            gradients.append({name: parameter.grad for name, parameter in network.named_parameters()})
            network.float().eval()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name])


def parts() -> Iterator[tuple[str, str]]:
    registries: dict[str, Registry] = {
        "mixer": MIXERS,
        "channel": CHANNELS,
        "stem": STEMS,
        "down": DOWNSAMPLES,
        "head": HEADS,
    }
    yield from ((role, name) for role, registry in registries.items() for name in registry)


@pytest.mark.slow
@pytest.mark.parametrize(("role", "name"), list(parts()))
@pytest.mark.parametrize("dims", [2, 3])
def test_every_part_can_be_specialised(role: str, name: str, dims: int, tmp_path: Path) -> None:
    names = {"stem": "conv", "down": "conv3s2", "mixer": "dwconv", "channel": "mlp", "head": "classify", role: name}
    names["mixer"] = "full_attention" if name == "keep_and_fuse" else names["mixer"]
    knobs = {"local": 0} if name == "keep_and_fuse" else {}
    blocks = (Block(Part.of(names["mixer"], **knobs), Part.of(names["channel"])),)
    stages = (Stage(16, blocks), Stage(32, blocks, down=Part.of(names["down"])))
    genotype = Genotype(dims, Part.of(names["stem"]), stages, Part.of(names["head"]))
    interface = CLASSES if "classification" in HEADS[names["head"]].TASKS else MASKS  # type: ignore[attr-defined]
    network = trained(genotype, interface)
    images = torch.rand(1, interface.channels, *SIZES[dims]) * 255
    stored = {"state_dict": network.state_dict(), "images": images, "outputs": module._outputs(network, images)}
    text, general = next(module._texts(genotype, interface, {}, size=SIZES[dims]))
    assert not general
    module._check(tmp_path / "backbone.py", text, stored, network)


FILE = """
from torch import nn


def check(part, value):
    if value < 1:
        raise ValueError(part)
    return value


class Part(nn.Module):
    def __init__(self, dim: int, *, kernel=3, gate=False, shift=0):
        super().__init__()
        # Keeps the size.
        self.kernel = check("part", kernel)
        self.layer = nn.Conv2d(dim, dim, (kernel, kernel), padding=(kernel // 2, kernel // 2), bias=True)
        self.gate = nn.Conv2d(dim, dim, 1) if gate else None
        self.shift = shift

    def forward(self, x):
        y = self.layer(x)
        if self.gate is not None:
            y = y * self.gate(x)
        return y if self.shift == 0 else self._moved(y)

    def _moved(self, y):
        return y.roll(self.shift, 2)


class Twice(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.parts = nn.Sequential({parts})
        self.last = nn.Conv2d(4, outputs, 1)

    def forward(self, x):
        return self.last(self.parts(x))


def build(num_classes=2):
    return Twice(num_classes)
"""


def specialised(parts: str, **options: list[str]) -> str:
    tree = parse(FILE.replace("{parts}", parts))
    specialise(tree, [2, 3], roots=["build"], **options)
    return "\n".join(module_lines(tree.body))


def test_knobs_checks_and_branches_that_are_not_used_go() -> None:
    text = specialised("Part(4, kernel=5), Part(4, kernel=5)")
    assert "check" not in text and "gate" not in text and "_moved" not in text and "kernel" not in text
    assert "    def __init__(self, dim: int):\n        super().__init__()\n" in text
    assert "self.layer = nn.Conv2d(dim, dim, 5, padding=2)" in text
    assert "        return self.layer(x)" in text
    assert "Part(4), Part(4)" in text


def test_what_differs_between_modules_stays() -> None:
    text = specialised("Part(4, kernel=5), Part(4, gate=True, shift=1)")
    assert "if self.gate is not None:" in text and "_moved" in text
    assert "kernel" in text and "raise" not in text


def test_frozen_definitions_stay_as_they_are() -> None:
    text = specialised("Part(4)", frozen=["Part", "check"])
    assert "raise ValueError(part)" in text and "if gate else None" in text and "# Keeps the size." in text


def test_what_depends_on_the_number_of_classes_stays() -> None:
    text = specialised("Part(4)")
    assert "nn.Conv2d(4, outputs, 1)" in text and "Twice(num_classes)" in text
