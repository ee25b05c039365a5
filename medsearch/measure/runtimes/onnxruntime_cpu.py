"""ONNX Runtime on the processor."""

from __future__ import annotations

from collections.abc import Callable

from medsearch.measure.latency import clock, runner
from medsearch.measure.runtime import RUNTIMES


@RUNTIMES.add("onnxruntime-cpu")
class OnnxRuntimeCpu:
    """All graph optimisations; with one thread by its processor time (see :func:`~medsearch.measure.latency.clock`)."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.clock = clock(threads)

    def describe(self) -> dict[str, str]:
        """The version."""
        import onnxruntime

        return {"runtime": f"onnxruntime {onnxruntime.__version__} CPU"}

    def runner(self, model: bytes) -> Callable[[], object]:
        """Runs on the calling thread and, with more than one, its helpers."""
        return runner(model, threads=self.threads)
