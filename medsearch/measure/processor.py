"""Which instructions torch and its libraries compute with here: what operators take inside holds for these."""

from __future__ import annotations

import os

import torch

from medsearch.measure.device import cpu

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
