"""ONNX Runtime on the processor."""

from __future__ import annotations

from importlib.metadata import version

from medsearch.targets import TARGETS
from medsearch.targets.onnx_runtime import OnnxRuntime


@TARGETS.add("onnxruntime-cpu")
class OnnxRuntimeCpu(OnnxRuntime):
    """All graph optimisations; one thread is timed by its processor time."""

    def describe(self) -> dict[str, str]:
        """The version, as installed: nothing is loaded to say it."""
        return {"runtime": f"onnxruntime {version('onnxruntime')} CPU"}
