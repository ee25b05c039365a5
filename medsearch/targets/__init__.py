"""Where networks are deployed: each target exports, runs and describes in one file (contract: ``target.py``)."""

from __future__ import annotations

from medsearch.core.registry import Registry

DEFAULT = "onnxruntime-cpu"

TARGETS = Registry("deployment target", "medsearch.targets")
