"""Deployment targets: the shipped ones keep the contract, one of somebody else is one class, one is not here."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from medsearch import testing
from medsearch.core import plugins
from medsearch.core.errors import MedsearchError, RefusedError, RunError, UsageError
from medsearch.exporters.onnx import to_onnx_fast
from medsearch.measurement.device import Profile, describe
from medsearch.measurement.latency import timer
from medsearch.measurement.latency.parts import PartTimes, reference
from medsearch.targets import TARGETS
from medsearch.targets.onnx_runtime import feeds, session
from medsearch.targets.target import make_target, named_by_suffix

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"
SHIPPED = ("onnxruntime-cpu", "onnxruntime-cuda", "torch-cpu")
OWN = Path(__file__).with_name("sleeping.py").read_text()
WITH_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``plugin(name, source)``: the module of somebody else, in use as by ``--plugin``, until the test ends."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_named", [])
    monkeypatch.setattr(TARGETS, "_parts", dict(TARGETS._load()))

    def use(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        timer.restart()  # one that was begun before does not know the folder
        plugins.use([name])

    return use


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "onnxruntime-cuda" or WITH_CUDA])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_shipped_one_keeps_the_contract(name: str, dims: int) -> None:
    testing.check_target(name, dims=dims)


def test_one_of_somebody_else_is_one_class(tmp_path: Path, plugin: Callable[[str, str], None]) -> None:
    plugin("sleeping", OWN)
    testing.check_target("sleeper")
    ratio, _ = timer.ratio_alone(b"x" * 900_000, b"x" * 300_000, threads=1, seconds=0.1, target="sleeper")
    assert ratio == pytest.approx(3, rel=0.4)
    times = PartTimes(Profile(threads=1, target="sleeper", folder=tmp_path))
    assert times.profile.device["runtime"] == "sleeper 1.0"
    mark = reference("sleeper")
    assert times.latency(mark).median_ms == pytest.approx(len(mark) * 1e-5, rel=0.4)
    assert named_by_suffix(".pickle", where="-o") == "sleeper"


def test_the_one_of_the_guide_runs(plugin: Callable[[str, str], None]) -> None:
    plugin("plain_target", next(code for code in _examples() if "@TARGETS" in code))
    testing.check_target("onnxruntime-plain")
    assert describe(2, "onnxruntime-plain")["runtime"].endswith("CPU, not optimised")
    mark = reference("onnxruntime-plain")
    ratio, pace = timer.ratio_alone(mark, mark, threads=1, seconds=0.1, target="onnxruntime-plain")
    assert 0.5 < ratio < 2 and pace > 0


def _examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)


BROKEN = {
    'return {"runtime": "sleeper 1.0"}': (
        ("return {}", "describe.. gives a dict with the 'runtime' and its version, got {}"),
        ('return {"runtime": b"1.0"}', "describe.. holds texts, for JSON: Object of type bytes"),
        ('return {"runtime": str(time.time())}', "describe.. is the same each time"),
    ),
    "self.export_fast(network, (image_1CS,))": (
        ("None", "export.. gives a file as bytes, got NoneType"),
        ("self.export_fast(network.eval(), (image_1CS,))", "export.. leaves the network in its mode"),
        (
            "self.export_fast(network, (network(torch.ones_like(image_1CS)) * 0,))",
            "export.. leaves the weights as they are",
        ),
        ("self.export_fast(network, ()) + bytes(time.time_ns() % 2**20)", "export.. gives files of one size"),
    ),
    "tuple(tuple(one.shape) for": (
        ("tuple(tuple(one.shape[1:]) for", r"input_shapes.. says .* \(\(1, 3, 8, 8\),\) here, got \(\(3, 8, 8\),\)"),
    ),
    "torch.from_numpy(images_NCS)).numpy()": (
        ("torch.from_numpy(images_NCS[:1])).numpy()", "outputs.. gives one output per image"),
        (
            "torch.from_numpy(images_NCS[::-1].copy())).numpy()",
            "outputs.. are the network's .*; they differ by",
        ),
    ),
    "self.clock = time.perf_counter": (("self.clock = lambda: 0.0", "clock.. says in seconds how long a run"),),
    'suffix = ".pickle"': (('suffix = "pickle"', "suffix is the ending of a file"),),
}


@pytest.mark.parametrize("right, wrong, message", [(right, *case) for right, cases in BROKEN.items() for case in cases])
def test_one_that_breaks_the_contract_is_told_what_that_wants(
    plugin: Callable[[str, str], None], right: str, wrong: str, message: str
) -> None:
    assert right in OWN
    plugin("sleeping", OWN.replace(right, wrong))
    with pytest.raises(AssertionError, match=f"target sleeper: {message}"):
        testing.check_target("sleeper")


def test_files_that_would_take_the_place_of_others_are_refused(plugin: Callable[[str, str], None]) -> None:
    plugin("sleeping", OWN.replace(".pickle", ".pt"))
    with pytest.raises(UsageError, match="the files of 'sleeper' end in .pt, as the network itself does"):
        make_target("sleeper")


def test_an_unknown_one_is_named_with_what_is_near() -> None:
    with pytest.raises(
        MedsearchError, match="--target: unknown deployment target 'onnxruntime-cp'.*\n?.*nxruntime-cpu"
    ):
        Profile(threads=1, target="onnxruntime-cp")


def test_a_suffix_names_a_target_the_default_before_others() -> None:
    assert [named_by_suffix(suffix, where="-o") for suffix in (".onnx", ".pt2")] == ["onnxruntime-cpu", "torch-cpu"]
    with pytest.raises(UsageError, match=r"-o: no deployment target .* '.bin'.\n  .*\.onnx, \.pt2"):
        named_by_suffix(".bin", where="-o")


@pytest.mark.skipif(WITH_CUDA, reason="this onnxruntime has CUDA")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(MedsearchError, match="has no CUDAExecutionProvider.\n  Install onnxruntime-gpu"):
        describe(1, "onnxruntime-cuda")


def test_a_profile_of_another_runtime_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Profile(threads=1, folder=tmp_path)
    here.pace = 1.0
    here.save()
    monkeypatch.setattr(TARGETS["onnxruntime-cpu"], "describe", lambda self: {"runtime": "onnxruntime 0.1 CPU"})
    with pytest.raises(RunError, match="onnxruntime 0.1 CPU"):
        Profile(threads=1, file=here.path)


def test_bound_inputs_and_outputs_give_what_a_plain_run_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of the CUDA target, on the processor where there is no GPU."""
    module = sys.modules[TARGETS["onnxruntime-cuda"].__module__]
    if not WITH_CUDA:
        monkeypatch.setattr(module, "PROVIDER", "CPUExecutionProvider")
        monkeypatch.setattr(module, "DEVICE", "cpu")
    file = to_onnx_fast(nn.Conv2d(1, 4, 3), (torch.zeros(1, 1, 8, 8),))
    plain = session(file)
    (bound,) = make_target("onnxruntime-cuda").runner(file)()  # type: ignore[misc]
    assert np.allclose(bound.numpy(), plain.run(None, feeds(plain, None))[0], atol=1e-5)


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_torch_cannot_trace_is_refused() -> None:
    with pytest.raises(RefusedError, match="torch.export: the exporter refused the network: "):
        make_target("torch-cpu").export(Branching(), torch.zeros(1, 1, 4, 4))
