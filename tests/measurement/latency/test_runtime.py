"""Runtimes: what each says of itself, one of somebody else, and one that this machine does not have."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from medsearch.core import plugins
from medsearch.core.errors import MedsearchError, RunError
from medsearch.exporters.onnx import to_onnx_fast
from medsearch.measurement.device import Profile, describe
from medsearch.measurement.latency import timer
from medsearch.measurement.latency.parts import PartTimes, reference
from medsearch.measurement.latency.runtime import RUNTIMES
from medsearch.measurement.latency.timing import feeds, session

GUIDE = Path(__file__).parents[3] / "docs" / "extending.md"
OWN = """\
import time

from medsearch.measurement.latency.timing import feeds, session
from medsearch.measurement.latency.runtime import RUNTIMES

print("what is printed is no answer")


@RUNTIMES.add("sleeper")
class Sleeper:
    def __init__(self, threads):
        self.clock = time.perf_counter

    def describe(self):
        return {"runtime": "sleeper 1.0"}

    def runner(self, model):
        return lambda: time.sleep(len(model) * 1e-8)
"""
WITH_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_one_of_somebody_else_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sleeping.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_named", [])
    timer.restart()  # one that was begun before does not know the folder
    plugins.use(["sleeping"])
    ratio, _ = timer.ratio_alone(b"x" * 900_000, b"x" * 300_000, threads=1, seconds=0.1, runtime="sleeper")
    assert ratio == pytest.approx(3, rel=0.4)
    times = PartTimes(Profile(threads=1, runtime="sleeper", folder=tmp_path))
    assert times.profile.device["runtime"] == "sleeper 1.0"
    assert times.latency(reference()).median_ms == pytest.approx(len(reference()) * 1e-5, rel=0.4)


def test_the_one_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_runtime.py").write_text(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.S)[-1])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_named", [])
    timer.restart()
    plugins.use(["plain_runtime"])
    assert describe(2, "onnxruntime-plain")["runtime"].endswith("CPU, not optimised")
    ratio, pace = timer.ratio_alone(reference(), reference(), threads=1, seconds=0.1, runtime="onnxruntime-plain")
    assert 0.5 < ratio < 2 and pace > 0


def test_an_unknown_one_is_named_with_what_is_near() -> None:
    with pytest.raises(MedsearchError, match="--runtime: unknown runtime 'onnxruntime-cp'.*\n?.*onnxruntime-cpu"):
        Profile(threads=1, runtime="onnxruntime-cp")


@pytest.mark.skipif(WITH_CUDA, reason="this onnxruntime has CUDA")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(MedsearchError, match="has no CUDAExecutionProvider.\n  Install onnxruntime-gpu"):
        describe(1, "onnxruntime-cuda")


def test_a_profile_of_another_runtime_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Profile(threads=1, folder=tmp_path)
    here.pace = 1.0
    here.save()
    monkeypatch.setattr(RUNTIMES["onnxruntime-cpu"], "describe", lambda self: {"runtime": "onnxruntime 0.1 CPU"})
    with pytest.raises(RunError, match="onnxruntime 0.1 CPU"):
        Profile(threads=1, file=here.path)


def test_bound_inputs_and_outputs_give_what_a_plain_run_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of the CUDA runtime, on the processor where there is no GPU."""
    module = sys.modules[RUNTIMES["onnxruntime-cuda"].__module__]
    if not WITH_CUDA:
        monkeypatch.setattr(module, "PROVIDER", "CPUExecutionProvider")
        monkeypatch.setattr(module, "DEVICE", "cpu")
    file = to_onnx_fast(nn.Conv2d(1, 4, 3), (torch.zeros(1, 1, 8, 8),))
    plain = session(file)
    (bound,) = RUNTIMES["onnxruntime-cuda"](1).runner(file)()
    assert np.allclose(bound.numpy(), plain.run(None, feeds(plain, None))[0], atol=1e-5)
