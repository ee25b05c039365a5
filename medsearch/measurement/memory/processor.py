"""Which instructions torch and its libraries compute with here: what operators take inside holds for these."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import torch

from medsearch.measurement.device import cache_folder, cpu

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Variables that hold oneDNN to older instructions."""

FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512_f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_fp16",
)
"""Instructions for which oneDNN has other ways to compute."""


def instructions() -> dict[str, str]:
    """The processor, what torch's own operators use of it, what oneDNN finds and may use, and the version of torch."""
    found = torch.cpu.get_capabilities()
    held = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    return {
        "cpu": cpu(),
        "aten": torch.backends.cpu.get_cpu_capability(),
        "onednn": " ".join([*(flag for flag in FLAGS if found.get(flag)), *held]),
        "torch": torch.__version__,
    }


def in_a_line(runtime: str) -> str:
    """The same with the version of the runtime: what a fault of a library depends on."""
    return ", ".join(f"{name} {value}" for name, value in {**instructions(), "runtime": runtime}.items())


def operators_file() -> Path:
    """Where is kept what operators take inside themselves with these instructions."""
    digest = hashlib.sha256(json.dumps(instructions(), sort_keys=True).encode()).hexdigest()[:10]
    return cache_folder() / f"operators-{digest}.json"
