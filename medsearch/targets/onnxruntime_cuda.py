"""ONNX Runtime on an NVIDIA GPU: inputs and outputs stay on the device, a run ends when the device has finished."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

from medsearch.core.errors import UsageError
from medsearch.targets import TARGETS
from medsearch.targets.onnx_runtime import OnnxRuntime, feeds, session

PROVIDER, DEVICE = "CUDAExecutionProvider", "cuda"


@TARGETS.add("onnxruntime-cuda")
class OnnxRuntimeCuda(OnnxRuntime):
    """The CUDA provider, by the time that passes.

    Raises:
        UsageError: where this onnxruntime was built without CUDA.
    """

    def __init__(self, threads: int) -> None:
        import onnxruntime

        super().__init__(threads)
        self.clock = time.perf_counter
        if PROVIDER not in onnxruntime.get_available_providers():
            remedy = "Install onnxruntime-gpu in place of onnxruntime, on a machine with an NVIDIA GPU."
            raise UsageError("--target", f"onnxruntime {onnxruntime.__version__} here has no {PROVIDER}.", remedy)

    def describe(self) -> dict[str, str]:
        """The version, and the GPU."""
        import onnxruntime

        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        name = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip().split("\n")[0]
        return {"runtime": f"onnxruntime {onnxruntime.__version__} CUDA", "gpu": name or "unknown"}

    def open(self, artifact: bytes) -> Any:
        """A session on the GPU."""
        return session(artifact, threads=self.threads, provider=PROVIDER)

    def runner(self, artifact: bytes) -> Callable[[], object]:
        """Binds everything on the device beforehand, so that no copy is timed."""
        import onnxruntime

        opened = self.open(artifact)
        bound = opened.io_binding()
        for name, values in feeds(opened, None).items():
            bound.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, DEVICE, 0))
        for node in opened.get_outputs():
            bound.bind_output(node.name, DEVICE, 0)

        def run() -> list[Any]:
            opened.run_with_iobinding(bound)
            bound.synchronize_outputs()
            return bound.get_outputs()

        return run
