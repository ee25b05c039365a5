"""Networks from Python: made, opened for other classes, exported, and refused where they do not say what they are."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import medsearch
from medsearch.backbones import Network
from medsearch.core.errors import CheckpointError, MedsearchError, SpaceError, UsageError
from medsearch.exporters.checkpoint import save_model
from medsearch.spaces import Block, Genotype, Part, Stage

GENOTYPE = Genotype(
    2,
    Part.of("conv", stride=2),
    (
        Stage(8, (Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2)),)),
        Stage(12, (Block(Part.of("window_attention", window=3, head_dim=4), Part.of("mlp")),), Part.of("conv3s2")),
    ),
    Part.of("classify"),
)
SIZE = (16, 16)


def made(*, num_classes: int = 3) -> Network:
    return medsearch.create_model(GENOTYPE, num_classes=num_classes, size=SIZE)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with the ``model.pt`` of a network for three classes, trained on ``brain2d`` by what it says."""
    network = made()
    save_model(
        tmp_path / "model.pt",
        genotype=GENOTYPE,
        interface=network.card.interface,
        size=SIZE,
        model=network,
        classes=("a", "b", "c"),
        scores={"accuracy": 0.5},
        provenance={"data": "brain2d", "epochs": 3},
    )
    return tmp_path


def images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 1, *SIZE) * 255


def test_a_network_is_made_by_name_genotype_or_plain_data() -> None:
    named = medsearch.create_model("convnext-t", num_classes=5, channels=3)
    assert named(torch.rand(1, 3, 64, 64)).shape == (1, 5)
    assert named.card.genotype == medsearch.load_space("convnext-t").first()
    assert made(num_classes=4)(images()).shape == (2, 4)
    assert medsearch.create_model(GENOTYPE.to_data(), num_classes=3, size=SIZE).card == made().card


def test_one_for_another_task_has_its_head() -> None:
    point = medsearch.load_space("hybrid2d-tiny", task="segmentation").sample(random.Random(0))
    assert medsearch.create_model(point, num_classes=4, task="segmentation")(images()).shape == (2, 4, *SIZE)


def test_a_space_with_choices_is_refused_with_how_to_take_one_of_it() -> None:
    with pytest.raises(SpaceError, match="choices open, so it is no single network") as refused:
        medsearch.create_model("hybrid2d-tiny", num_classes=2)
    assert refused.value.remedy == (
        "Take one of it: create_model(load_space('hybrid2d-tiny').sample(random.Random(0)), ...)"
    )


def test_one_that_does_not_exist_or_cannot_be_built_is_refused() -> None:
    with pytest.raises(MedsearchError, match="swin-t"):
        medsearch.create_model("swin-tt", num_classes=2)
    with pytest.raises(SpaceError, match="has no head for segmentation"):
        medsearch.create_model("convnext-t", num_classes=2, task="segmentation")
    with pytest.raises(SpaceError, match="genotype"):
        medsearch.create_model({"dims": 2}, num_classes=2)


def test_a_network_is_opened_by_its_file_or_folder_with_what_it_is(saved: Path) -> None:
    by_file, by_folder = medsearch.load(saved / "model.pt"), medsearch.load(str(saved))
    assert not by_file.training
    assert torch.equal(by_file(images_ := images()), by_folder(images_))
    assert (by_file.card.classes, by_file.card.scores) == (("a", "b", "c"), {"accuracy": 0.5})
    assert [f.shape[1] for f in by_file.features(images_)] == by_file.feature_info.channels() == [8, 12]


@pytest.mark.parametrize("classes", [3, 7])
def test_for_other_classes_only_the_head_is_fresh_and_nothing_is_said_of_the_old_ones(
    saved: Path, classes: int
) -> None:
    old, new = medsearch.load(saved), medsearch.load(saved, num_classes=classes)
    assert new(images()).shape == (2, classes)
    assert torch.equal(old.features(one := images())[-1], new.features(one)[-1])
    assert old.card.interface.outputs == 3 and new.card.interface.outputs == classes
    assert (new.card.classes, new.card.scores, dict(new.card.provenance)) == ((), {}, {"epochs": 3})
    with pytest.raises(UsageError, match="does not say what it was trained on"):
        medsearch.compress(new, out=saved / "compressed")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model.pt: cannot be read: No such file"):
        medsearch.load(tmp_path)


def test_a_network_that_does_not_say_what_it_is_is_neither_exported_nor_compressed(tmp_path: Path) -> None:
    wanted = "model: a Linear does not say what it is.\n  Give a model.pt, or a network of medsearch.load"
    with pytest.raises(UsageError, match=wanted):
        medsearch.export(nn.Linear(2, 2), tmp_path / "x.onnx")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=wanted):
        medsearch.compress(nn.Linear(2, 2), "brain2d", out=tmp_path)  # type: ignore[arg-type]


def test_one_without_the_size_of_its_images_neither(tmp_path: Path) -> None:
    network = medsearch.create_model(GENOTYPE, num_classes=2)
    with pytest.raises(UsageError, match=r"does not say the size.*\n.*create_model\(..., size=\(64, 64\)\)"):
        medsearch.export(network, tmp_path / "x.onnx")
    with pytest.raises(UsageError, match="does not say the size"):
        medsearch.compress(network, "brain2d", out=tmp_path)
    with pytest.raises(UsageError, match="size: expected 2 lengths, got 3"):
        medsearch.export(network, tmp_path / "x.onnx", size=(16, 16, 16))
    assert medsearch.export(network, tmp_path / "x.onnx", size=SIZE).exists()


def test_a_compression_of_a_network_in_memory_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="where should the files go.\n  Name a folder: out='compressed'"):
        medsearch.compress(made(), "brain2d")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        medsearch.export(made(), tmp_path / "network.txt")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def trained(saved: Path) -> Network:
    """The saved network after a step of training on two other classes, in training mode."""
    network = medsearch.load(saved, num_classes=2).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    nn.functional.cross_entropy(network(images(8)), torch.arange(8) % 2).backward()
    optimizer.step()
    return network


def test_a_network_that_was_trained_further_is_exported_as_it_is_now(trained: Network, tmp_path: Path) -> None:
    path = medsearch.export(trained, tmp_path / "now.onnx")
    one = images(1)
    opened = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = opened.run(None, {opened.get_inputs()[0].name: one.numpy()})
    assert trained.training
    with torch.no_grad():
        wanted = trained.eval()(one).numpy()
    assert np.allclose(found, wanted, atol=1e-4)
    assert not np.allclose(medsearch.load(tmp_path, num_classes=2)(one).detach().numpy(), wanted, atol=1e-4)


def test_as_plain_python_too(trained: Network, tmp_path: Path) -> None:
    path = medsearch.export(trained, tmp_path / "backbone.py")
    one = images(1)
    torch.save(one, tmp_path / "image.pt")
    code = "import torch, backbone; print(backbone.load()(torch.load('image.pt')).tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert np.allclose(eval(done.stdout), trained.eval()(one).numpy(), atol=1e-4)
