"""A delivered network measured again: what is certified, what is over, and what is no delivered network at all."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from medsearch.backbones import Interface, build
from medsearch.cli import main
from medsearch.core.config import parse_yaml
from medsearch.core.errors import MedsearchError
from medsearch.exporters.checkpoint import load_model, save_model
from medsearch.exporters.onnx import to_onnx_fast
from medsearch.measurement.costs import COSTS
from medsearch.measurement.device import Profile, describe
from medsearch.measurement.latency.parts import PartTimes
from medsearch.measurement.memory.processor import instructions
from medsearch.pipeline.alone import blank
from medsearch.pipeline.deliver import training_device, versions
from medsearch.pipeline.measurement import measure
from medsearch.pipeline.verification import verify
from medsearch.spaces import read_space
from medsearch.tasks import make_task
from medsearch.train import TrainingRecipe

SPACE = """\
name: tiny
dims: {dims}
stem: {{name: conv, stride: 2}}
heads: {{{task}: {head}}}
stages:
  - {{dim: 8, mixer: {{name: dwconv, kernel: 3}}, channel: {{name: mlp, ratio: 2}}}}
"""


def write_model(folder: Path, *, task: str, dims: int) -> None:
    """A network with fresh weights, as ``model.pt`` and ``model.onnx``."""
    text = SPACE.format(dims=dims, task=task, head=heads(task))
    genotype = read_space(parse_yaml(text, "tiny").value, "tiny", task=task).first()
    outputs = 1 if task == "denoising" else 3
    interface, size = Interface(task=task, channels=1, outputs=outputs), (16,) * dims
    model = build(genotype, interface).eval()
    classes = () if task == "denoising" else ("one", "two", "three")
    facts: dict[str, Any] = {"size": size, "classes": classes, "scores": {}, "provenance": {}}
    save_model(folder / "model.pt", genotype=genotype, interface=interface, model=model, **facts)
    (folder / "model.onnx").write_bytes(to_onnx_fast(model, (torch.zeros(1, 1, *size),)))


def heads(task: str) -> str:
    from medsearch.blocks import HEADS as known

    return next(name for name in known if task in known[name].TASKS)  # type: ignore[attr-defined]


def certificate(folder: Path) -> dict[str, Any]:
    """What a search would write beside the model, with limits that are kept."""
    checkpoint = load_model(folder / "model.pt")
    task = make_task(checkpoint.interface.task, outputs=checkpoint.interface.outputs, dims=len(checkpoint.size))
    onnx = (folder / "model.onnx").read_bytes()
    recipe = TrainingRecipe(epochs=1, batch=8, accumulate=2)
    data = blank(checkpoint, "uint8")
    times = PartTimes(Profile(threads=1))
    found = measure(checkpoint.build(), data, task, recipe, artifact=onnx, timing=times.latency(onnx))
    return {
        "architecture": checkpoint.genotype.id,
        "verdict": "within budget",
        "device": {**describe(threads=1), "training": training_device()},
        "instructions": instructions(),
        "versions": versions(),
        "conditions": {
            "training_batch": 8,
            "training_accumulate": 2,
            "training_checkpointing": False,
            "training_precision": "fp32",
            "inference_batch": 1,
            "inference_target": "onnxruntime-cpu",
            "inference_threads": 1,
            "size": list(checkpoint.size),
            "images": "uint8",
        },
        "limits": {
            name: {"limit": 1e9, "predicted": one.to_data(), "measured": one.to_data(), "verdict": "kept"}
            for name, one in found.items()
        },
    }


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("delivered")
    write_model(folder, task="classification", dims=2)
    (folder / "budget.json").write_text(json.dumps(certificate(folder)))
    return folder


@pytest.fixture
def folder(delivered: Path, tmp_path: Path) -> Path:
    """A copy for one test to spoil."""
    return Path(shutil.copytree(delivered, tmp_path / "copy"))


@pytest.fixture
def change(folder: Path) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """``change(lambda data: ...)``: edits the copy's certificate."""

    def edit(how: Callable[[dict[str, Any]], object]) -> None:
        data = json.loads((folder / "budget.json").read_text())
        how(data)
        (folder / "budget.json").write_text(json.dumps(data))

    return edit


Change = Callable[[Callable[[dict[str, Any]], object]], None]


def test_a_cache_that_cannot_be_written_is_a_remark(
    delivered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("MEDSEARCH_CACHE", str(tmp_path / "cache"))
    found = verify(delivered)
    (remark,) = found["remarks"]
    assert re.search(r"cache/profile-\w+.json: cannot be written: .*cache is not a folder", remark)
    assert found["verdict"] == "within budget"


def test_what_is_exact_is_found_again_to_the_byte(delivered: Path) -> None:
    found = verify(delivered)
    assert list(found["costs"]) == list(COSTS)
    for name in ("parameters", "macs", "memory", "inference", "file"):
        assert found["costs"][name]["now"] == found["costs"][name]["certified"], name
    assert found["costs"]["file"]["now"] == (delivered / "model.onnx").stat().st_size
    assert found["costs"]["latency"]["now"] > 0
    assert (found["kept"], found["verdict"], found["remarks"]) == (True, "within budget", [])


@pytest.mark.parametrize("name", ["model.pt", ""])
def test_limits_that_are_kept_are_exit_code_0(delivered: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(delivered / name)]) == 0
    said = capsys.readouterr().out
    assert "within budget" in said
    assert all(cost in said for cost in list(COSTS))


@pytest.mark.parametrize("name", list(COSTS))
def test_a_limit_that_is_not_kept_is_exit_code_3(
    folder: Path, change: Change, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(lambda data: data["limits"][name].update(limit=1e-6))
    assert main(["verify", str(folder), "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["kept"], found["verdict"]) == (False, f"over budget: {name}")
    assert [cost for cost in list(COSTS) if found["costs"][cost]["verdict"] == "over"] == [name]


def test_a_cost_without_limit_is_shown_and_not_judged(folder: Path, change: Change) -> None:
    change(lambda data: data["limits"]["memory"].update(limit=None))
    assert verify(folder)["costs"]["memory"]["verdict"] == "no limit"


def test_another_device_other_instructions_and_other_versions_are_said(folder: Path, change: Change) -> None:
    change(lambda data: data["device"].update(cpu="Z80"))
    change(lambda data: data["instructions"].update(aten="mmx", cpu="Z80", torch="0.4"))
    change(lambda data: data["versions"].update(torch="0.4"))
    device, instructed, used = verify(folder)["remarks"]
    assert device.startswith("another device: cpu ")
    assert device.endswith("certified Z80.")
    assert instructed == f"other instructions: aten {instructions()['aten']}, certified mmx."
    assert used == f"other versions: torch {torch.__version__}, certified 0.4."


def test_the_training_step_is_that_of_the_certificate(folder: Path, change: Change) -> None:
    memory = [verify(folder)["costs"]["memory"]["now"]]
    for batch, accumulate in ((8, 1), (64, 1)):
        change(lambda data, b=batch, a=accumulate: data["conditions"].update(training_batch=b, training_accumulate=a))
        memory.append(verify(folder)["costs"]["memory"]["now"])
    assert memory == sorted(set(memory))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda data: data.pop("limits"), "missing limits"),
        (lambda data: data["limits"].update(beauty=data["limits"]["macs"]), "limits.beauty: unknown cost 'beauty'"),
        (lambda data: data["limits"]["macs"].update(limit="much"), "limits.macs.limit: expected a number"),
        (lambda data: data["limits"]["macs"].update(measured={}), "limits.macs.measured: missing value"),
        (lambda data: data["conditions"].pop("images"), "conditions: missing images"),
        (lambda data: data["conditions"].update(inference_target="tvm"), "inference_target: unknown choice 'tvm'"),
        (
            lambda data: data["conditions"].update(training_batch=0),
            "conditions.training_batch: expected a whole number",
        ),
        (lambda data: data.update(architecture="0123456789"), "is of 0123456789"),
    ],
)
def test_a_certificate_that_says_too_little_is_refused(
    folder: Path, change: Change, how: Callable[[dict[str, Any]], object], words: str
) -> None:
    change(how)
    with pytest.raises(MedsearchError, match=words):
        verify(folder)


@pytest.mark.parametrize("name", ["budget.json", "model.onnx", "model.pt"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00hello"])
def test_a_missing_or_damaged_file_is_named(
    folder: Path, name: str, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert main(["verify", str(folder)]) == 2
    said = capsys.readouterr().err
    assert name in said
    assert "Traceback" not in said


def test_what_is_no_delivered_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MedsearchError, match="holds no model.pt"):
        verify(tmp_path)
    with pytest.raises(MedsearchError, match="cannot be read"):
        verify(tmp_path / "nowhere.pt")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("task", ["classification", "segmentation", "denoising"])
def test_every_task_is_measured_without_its_data(tmp_path: Path, task: str, dims: int) -> None:
    write_model(tmp_path, task=task, dims=dims)
    data = certificate(tmp_path)
    (tmp_path / "budget.json").write_text(json.dumps(data))
    found = verify(tmp_path)
    assert found["kept"]
    assert found["costs"]["memory"]["now"] == data["limits"]["memory"]["measured"]["value"]
