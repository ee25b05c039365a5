"""What the machine computes with, as said in certificates and by the doctor."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from medsearch.measurement.device import describe
from medsearch.measurement.memory.processor import LIMITS, instructions
from medsearch.studies.doctor import doctor


def test_the_processor_and_what_torch_uses_of_it_are_named() -> None:
    found = instructions()
    assert found["cpu"] == describe(threads=1)["cpu"]
    assert found["aten"] == torch.backends.cpu.get_cpu_capability()
    assert found["torch"] == torch.__version__
    assert ("avx512_f" in found["onednn"].split()) == bool(torch.cpu.get_capabilities().get("avx512_f"))


def test_what_is_held_to_older_instructions_says_so() -> None:
    code = "from medsearch.measurement.memory.processor import instructions; print(instructions())"
    environment = {name: value for name, value in os.environ.items() if name not in LIMITS}
    held = {**environment, "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    plain, limited = (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
        for env in (environment, held)
    )
    assert "ONEDNN_MAX_CPU_ISA" not in plain
    assert "ONEDNN_MAX_CPU_ISA=SSE41" in limited and "'aten': 'DEFAULT'" in limited


def test_the_doctor_names_them() -> None:
    rows = {row["what"]: row["here"] for row in doctor(predictions=None, space=None, data=None, out=None)}
    assert rows["instructions"].startswith(f"torch computes with {instructions()['aten']}; oneDNN finds ")
