"""The Python file of a network: it stands alone, computes the same, and holds nothing that was not checked."""

from __future__ import annotations

import ast
import importlib.util
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medsearch.backbones import Interface, Network, build
from medsearch.core.config import read_yaml
from medsearch.core.errors import RefusedError, SpaceError
from medsearch.core.library import find
from medsearch.exporters.module import TOLERANCE, module_text, write_module
from medsearch.spaces import Block, Genotype, Part, Stage, read_space

INTERFACES = [
    Interface(task="classification", channels=3, outputs=4),
    Interface(task="segmentation", channels=1, outputs=2),
    Interface(task="denoising", channels=1, outputs=1),
]
DRAWN = [(dims, interface, seed) for seed, interface in enumerate(INTERFACES) for dims in (2, 3)]
SIZES = {2: (20, 23), 3: (10, 8, 11)}

RUN_WITHOUT_MEDSEARCH = """
import runpy, sys
sys.modules["medsearch"] = None
for file in sys.argv[1:]:
    try:
        runpy.run_path(file, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, file
assert not [name for name in sys.modules if name.startswith("medsearch.")]
"""


def trained(genotype: Genotype, interface: Interface) -> Network:
    """A network with no weight and no statistic at its starting value, in training mode as a trainer leaves it."""
    network = build(genotype, interface)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)):
        norm.running_mean.normal_(std=0.2)
        norm.running_var.uniform_(0.5, 1.5)
    network.standardize.mean += 90.0
    network.standardize.std *= 40.0
    return network.train()


def images(genotype: Genotype, interface: Interface, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (count, interface.channels, *SIZES[genotype.dims])).astype(np.uint8)


def small(**knobs: Any) -> Genotype:
    block = Block(Part.of("dwconv", **knobs), Part.of("mlp", ratio=2))
    return Genotype(2, Part.of("conv"), (Stage(8, (block,)),), Part.of("classify"))


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("backbone", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Network, np.ndarray]]:
    """One network of each shipped space and task, written."""
    torch.manual_seed(0)
    found = []
    for dims, interface, seed in DRAWN:
        source = find("spaces", f"hybrid{dims}d-tiny")
        genotype = read_space(read_yaml(source), str(source), task=interface.task).sample(random.Random(seed))
        network, raw = trained(genotype, interface), images(genotype, interface)
        folder = tmp_path_factory.mktemp("export")
        path = write_module(folder, genotype, interface, network, raw, {"parameters": 12345, "test AUC": 0.9})
        found.append((path, network, raw))
    return found


def test_the_file_gives_exactly_the_outputs_of_the_network(written: list[tuple[Path, Network, np.ndarray]]) -> None:
    for path, network, raw in written:
        assert network.training
        batch = torch.from_numpy(raw).float()
        with torch.no_grad():
            assert torch.equal(loaded(path).load()(batch), network.eval()(batch))
        network.train()


def test_the_self_test_passes_where_there_is_no_medsearch(
    written: list[tuple[Path, Network, np.ndarray]], tmp_path: Path
) -> None:
    files = [str(path) for path, _, _ in written]
    command = [sys.executable, "-I", "-c", RUN_WITHOUT_MEDSEARCH, *files]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("passed: ") == len(run.stdout.splitlines()) == len(files)


def test_the_file_imports_torch_and_the_standard_library_alone(
    written: list[tuple[Path, Network, np.ndarray]],
) -> None:
    for path, _, _ in written:
        text = path.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text)))
        modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        assert {name.partition(".")[0] for name in modules} <= {"torch", *sys.stdlib_module_names}
        assert ".add(" not in text
        assert '"""Backbone ' in text.splitlines()[0] and "12,345" in text and "test AUC" in text


def test_the_file_is_clean_by_the_linter_and_formatted(
    written: list[tuple[Path, Network, np.ndarray]],
) -> None:
    files = [str(path) for path, _, _ in written]
    settings = ["--isolated", "--no-cache", "--line-length", "120"]
    for command in (["check", "--select", "E,F,I,UP,B"], ["format", "--diff"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *settings, *files], capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout


def test_the_self_test_fails_for_other_weights(tmp_path: Path) -> None:
    genotype, interface = small(), INTERFACES[0]
    path = write_module(tmp_path, genotype, interface, trained(genotype, interface), images(genotype, interface), {})
    stored = torch.load(tmp_path / "backbone.pt", weights_only=True)
    stored["state_dict"]["head.linear.bias"][0] += 1e-4 * float(stored["outputs"].abs().max())
    torch.save(stored, tmp_path / "backbone.pt")
    run = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stdout.startswith("FAILED: largest difference ") and len(run.stdout.splitlines()) == 1


def test_the_self_test_fails_where_the_outputs_are_no_numbers(tmp_path: Path) -> None:
    genotype, interface = small(), INTERFACES[0]
    path = write_module(tmp_path, genotype, interface, trained(genotype, interface), images(genotype, interface), {})
    stored = torch.load(tmp_path / "backbone.pt", weights_only=True)
    stored["state_dict"]["head.linear.bias"][0] = float("nan")
    torch.save(stored, tmp_path / "backbone.pt")
    assert not loaded(path).self_test()


def test_a_network_that_is_not_what_the_genotype_says_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    genotype, interface = small(), INTERFACES[0]
    changed = trained(genotype, interface)
    changed.stages[0].blocks[0].channel.act = nn.ReLU()  # the same weights, another function
    with pytest.raises(RefusedError, match=r"backbone.py: the file differs from the network by .*e-0"):
        write_module(tmp_path, genotype, interface, changed, images(genotype, interface), {})
    wider = trained(small(kernel=7), interface)
    with pytest.raises(RefusedError, match="the weights do not fit the architecture"):
        write_module(tmp_path, genotype, interface, wider, images(genotype, interface), {})
    assert list(tmp_path.iterdir()) == []


def test_facts_cannot_become_code(tmp_path: Path) -> None:
    genotype, interface = small(), INTERFACES[0]
    hostile = {
        '"""\nimport os  # ': 'x"""\nraise SystemExit(3)\n"""',
        "ends in a backslash": "\\",
        "turns text around": "\u202e\x00\x1b[31m",
        "{call}": "{0.__class__}" + "long" * 100,
    }
    text = module_text(genotype, interface, hostile, size=(8, 8))
    plain = module_text(genotype, interface, {}, size=(8, 8))
    seen, expected = (ast.parse(source).body for source in (text, plain))
    assert [ast.dump(node) for node in seen[1:]] == [ast.dump(node) for node in expected[1:]]
    assert isinstance(seen[0], ast.Expr) and isinstance(seen[0].value, ast.Constant)
    assert max(map(len, text.splitlines())) <= 120
    assert not {"\u202e", "\x00", "\x1b"} & set(text)


def test_a_value_that_is_no_literal_is_refused() -> None:
    for value in (float("nan"), float("inf")):
        block = Block(Part.of("dwconv"), Part.of("mlp"), layer_scale=value)
        genotype = Genotype(2, Part.of("conv"), (Stage(8, (block,)),), Part.of("classify"))
        with pytest.raises(SpaceError, match="ResidualBlock: (nan|inf) cannot be written"):
            module_text(genotype, INTERFACES[0], {}, size=(8, 8))


def test_the_tolerance_is_a_millionth() -> None:
    assert TOLERANCE == 1e-6
    assert "TOLERANCE = 1e-06" in module_text(small(), INTERFACES[0], {}, size=(8, 8))
