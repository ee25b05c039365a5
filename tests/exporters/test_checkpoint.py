"""``model.pt``: what was saved comes back, and a file that is anything else is refused in one clear sentence."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from medsearch.backbones import Interface, build
from medsearch.core.errors import CheckpointError, WriteError
from medsearch.exporters.checkpoint import load_model, save_model
from medsearch.spaces import Block, Genotype, Part, Stage

INTERFACE = Interface(task="classification", channels=1, outputs=3)
GENOTYPE = Genotype(
    2,
    Part.of("conv", stride=2),
    (
        Stage(8, (Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2), layer_scale=0.5),)),
        Stage(12, (Block(Part.of("window_attention", window=3, head_dim=4), Part.of("mlp")),), Part.of("conv3s2")),
    ),
    Part.of("classify"),
)
SCORES = {"accuracy": 0.75, "auc": float("nan")}
PROVENANCE = {"command": "medsearch train x", "seeds": [0, 1], "data": {"name": "sample", "images": 12, "path": None}}
Data = dict[str, Any]


def save(path: Path, model: nn.Module) -> None:
    save_model(
        path,
        genotype=GENOTYPE,
        interface=INTERFACE,
        size=(16, 16),
        model=model,
        classes=("one", "two", "three"),
        scores=SCORES,
        provenance=PROVENANCE,
    )


@pytest.fixture
def model() -> nn.Module:
    return build(GENOTYPE, INTERFACE)


@pytest.fixture
def path(tmp_path: Path, model: nn.Module) -> Path:
    save(tmp_path / "model.pt", model)
    return tmp_path / "model.pt"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        load_model(path)
    text = str(refused.value)
    assert str(path) in text
    assert "weights_only" not in text and len(text) < 1000
    return text


def test_everything_comes_back(path: Path, model: nn.Module) -> None:
    random_state = torch.get_rng_state()
    seen = load_model(path)
    assert (seen.genotype, seen.interface, seen.size) == (GENOTYPE, INTERFACE, (16, 16))
    assert seen.classes == ("one", "two", "three")
    assert seen.scores["accuracy"] == 0.75 and seen.scores["auc"] != seen.scores["auc"]
    assert seen.provenance == PROVENANCE
    network = seen.build()
    assert not network.training
    image = torch.randn(2, 1, 16, 16)
    assert torch.equal(network(image), model.eval()(image))
    torch.set_rng_state(random_state)
    seen.build()
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_same_model_gives_the_same_bytes_in_any_memory_format(path: Path, model: nn.Module) -> None:
    save(path.with_name("again.pt"), model.to(memory_format=torch.channels_last))
    assert path.read_bytes() == path.with_name("again.pt").read_bytes()


def test_saving_refuses_weights_of_another_architecture_and_keeps_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"'head.linear.weight': expected .* shape \(3, 12\)"):
        save(path, build(GENOTYPE, Interface(task="classification", channels=1, outputs=4)))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saving_refuses_what_could_not_be_read_back(path: Path, model: nn.Module) -> None:
    for value in (Path("/x"), 10**5000, {1, 2}):
        with pytest.raises(CheckpointError, match="plain (values|data)"):
            save_model(
                path.with_name("other.pt"),
                genotype=GENOTYPE,
                interface=INTERFACE,
                size=(16, 16),
                model=model,
                classes=(),
                scores={},
                provenance={"command": value},
            )
    assert list(path.parent.iterdir()) == [path]


def test_a_model_that_has_no_room_is_named_and_leaves_the_old_one(
    disk: Path, fill: Callable[[], None], model: nn.Module
) -> None:
    save(disk / "model.pt", model)
    before = load_model(disk / "model.pt")
    fill()
    with pytest.raises(WriteError, match=r"disk/model.pt: cannot be written: No space left on device"):
        save(disk / "model.pt", build(GENOTYPE, INTERFACE))
    after = load_model(disk / "model.pt")
    assert all(torch.equal(tensor, after.state[name]) for name, tensor in before.state.items())
    assert sorted(path.name for path in disk.iterdir()) == ["filler", "model.pt"]


def test_other_classes_begin_with_a_fresh_last_layer(path: Path, model: nn.Module) -> None:
    seen = load_model(path)
    random = torch.random.get_rng_state()
    for outputs in (3, 7):
        state = seen.build(outputs=outputs).state_dict()
        fresh = [name for name, tensor in state.items() if not torch.equal(tensor, model.state_dict().get(name))]
        assert fresh == ["head.linear.weight", "head.linear.bias"]
        assert state["head.linear.weight"].shape == (outputs, 12)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_denoiser_keeps_its_channels(path: Path) -> None:
    interface = Interface(task="denoising", channels=1, outputs=1)
    genotype = replace(GENOTYPE, head=Part.of("pyramid", dim=8, detail=8))
    save_model(
        path,
        genotype=genotype,
        interface=interface,
        size=(16, 16),
        model=build(genotype, interface),
        classes=(),
        scores={},
        provenance={},
    )
    with pytest.raises(CheckpointError, match="outputs: a denoiser of 1 channels has as many, not 2"):
        load_model(path).build(outputs=2)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "none.pt")
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 0.5, 0.99])
def test_a_truncated_file_is_refused(path: Path, kept: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    assert "is damaged" in refusal(path)


def test_files_of_other_kinds_are_refused(path: Path) -> None:
    path.write_text("accuracy: 1.0\n")
    assert "is damaged" in refusal(path)
    path.write_bytes(pickle.dumps({"format": 1}))
    assert "is damaged" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing of interest")
    assert "is damaged" in refusal(path)
    torch.save(nn.ReLU(), path)
    assert "more than tensors and plain data" in refusal(path)


def test_damaged_bytes_are_refused_or_change_nothing_but_weights(path: Path) -> None:
    data = path.read_bytes()
    for place in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
        try:
            seen = load_model(path)
        except CheckpointError:
            continue
        assert {name: tensor.shape for name, tensor in seen.state.items()} == {
            name: tensor.shape for name, tensor in build(seen.genotype, seen.interface).state_dict().items()
        }


class Harmful:
    """Makes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_never_run(path: Path) -> None:
    trap = path.with_name("trap")
    torch.save({"format": 1, "genotype": Harmful(trap)}, path)
    assert "more than tensors and plain data" in refusal(path)
    assert not trap.exists()


def test_a_file_that_unpacks_to_more_than_its_size_is_refused(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    weights = max(entries, key=lambda name: len(entries[name]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, bytes(10**7) if name == weights else data)
    assert path.stat().st_size < 10**5
    assert "unpacks to more than its size" in refusal(path)


def put(*keys: str | int, value: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        place: Any = data
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def drop(*keys: str) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        place: Any = data
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change


def circle(data: Data) -> None:
    data["provenance"]["self"] = data["provenance"]


def laughs(data: Data) -> None:
    nest: list[Any] = ["ha"] * 10
    for _ in range(20):
        nest = [nest] * 10
    data["provenance"]["joke"] = nest


def shared(data: Data) -> None:
    state = data["state_dict"]
    storage = torch.zeros(max(tensor.numel() for tensor in state.values()))
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = storage[: tensor.numel()].view(tensor.shape)


FIRST = "stages.0.blocks.0.mixer.filter.weight"
MIXER = ("genotype", "stages", 0, "blocks", 0, "mixer")
WRONG: dict[str, tuple[Callable[[Data], None], str]] = {
    "newer format": (put("format", value=3), "expected format 2, got 3.\n  Another version of medsearch"),
    "earlier format": (put("format", value=1), "expected format 2, got 1.\n  An earlier version of medsearch wrote it"),
    "format in words": (put("format", value="1"), "expected format 2, got '1'.\n  Another version"),
    "true as format": (put("format", value=True), "expected format 2, got True.\n  Another version"),
    "no format": (drop("format"), "expected format 2, got none"),
    "no genotype": (drop("genotype"), "missing genotype"),
    "unknown key": (put("extra", value=1), "unknown key 'extra'"),
    "key that is no name": (put(7, value=1), "expected names as keys"),
    "genotype of another kind": (put("genotype", value=[1]), "expected named values"),
    "unknown mixer": (put(*MIXER, "name", value="dwconf"), "Did you mean 'dwconv'?"),
    "unknown knob": (put(*MIXER, "kernels", value=3), "no knob 'kernels'"),
    "wrong knob value": (put(*MIXER, "kernel", value=4), "dwconv: kernel must be odd"),
    "knob of another type": (put(*MIXER, "kernel", value="3"), "state_dict: the architecture cannot be built: "),
    "unknown head": (put("genotype", "head", "name", value="classfy"), "Did you mean 'classify'?"),
    "absurd width": (put("genotype", "stages", 0, "dim", value=10**5), "numbers; at most 2,000,000,000 are read"),
    "overflowing width": (put("genotype", "stages", 0, "dim", value=2**62), "the architecture cannot be built"),
    "another width": (put("genotype", "stages", 0, "dim", value=16), "expected torch.float32 of shape (16"),
    "task of no head": (put("task", value="segmentation"), "unknown choice 'segmentation'"),
    "channels": (put("channels", value=True), "channels: expected a whole number"),
    "outputs": (put("outputs", value=0), "outputs: expected a whole number"),
    "size of other axes": (put("size", value=[16, 16, 16]), "size: expected 2 lengths, got 3"),
    "size of zero": (put("size", value=[0, 16]), "size[0]: expected a whole number"),
    "too few classes": (put("classes", value=["a"]), "expected 3 names or none, got 1"),
    "class without name": (put("classes", value=["a", "b", 3]), "classes[2]: expected a text"),
    "score in words": (put("scores", "accuracy", value="high"), "scores.accuracy: expected a number"),
    "tensor as provenance": (put("provenance", "x", value=torch.zeros(3)), "holds a Tensor"),
    "provenance in a circle": (circle, "without end"),
    "provenance that unfolds": (laughs, "too many values"),
    "missing weight": (drop("state_dict", FIRST), f"'{FIRST}' is missing (1 in all)"),
    "unknown weight": (put("state_dict", "stages.9", value=torch.zeros(1)), "unknown weight 'stages.9'"),
    "weight of another shape": (put("state_dict", FIRST, value=torch.zeros(8, 1, 5, 5)), "got torch.float32 of shape"),
    "weight of another type": (put("state_dict", FIRST, value=torch.zeros(8, 1, 3, 3).half()), "got torch.float16"),
    "weight that is no tensor": (put("state_dict", FIRST, value=[0.0]), "got a list"),
    "weight without memory": (put("state_dict", FIRST, value=torch.zeros(8, 1, 3, 3, device="meta")), "on meta"),
    "weight with gaps": (put("state_dict", FIRST, value=torch.zeros(1).expand(8, 1, 3, 3)), "with gaps"),
    "sparse weight": (put("state_dict", FIRST, value=torch.zeros(8, 1, 3, 3).to_sparse()), "sparse"),
    "weights in one place": (shared, "share memory"),
    "no weights": (put("state_dict", value=None), "state_dict: expected a mapping"),
}


@pytest.mark.parametrize("name", WRONG)
def test_inconsistent_contents_are_refused(path: Path, name: str) -> None:
    change, expected = WRONG[name]
    data = torch.load(path, weights_only=True)
    change(data)
    torch.save(data, path)
    assert expected in refusal(path)


def test_contents_that_are_no_dictionary_are_refused(path: Path) -> None:
    torch.save([1, 2], path)
    assert "holds a list, not a checkpoint" in refusal(path)
