"""ONNX Runtime on the processor."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from medsearch.measure.latency import clock, runner
from medsearch.measure.runtime import RUNTIMES


@RUNTIMES.add("onnxruntime-cpu")
class OnnxRuntimeCpu:
    """All graph optimisations; with one thread by its processor time (see :func:`~medsearch.measure.latency.clock`)."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.clock = clock(threads)

    def describe(self) -> dict[str, str]:
        """The version, as installed: the library is loaded where networks are timed, and nowhere else."""
        return {"runtime": f"onnxruntime {version('onnxruntime')} CPU"}

    def runner(self, model: bytes) -> Callable[[], object]:
        """Runs on the calling thread and, with more than one, its helpers."""
        return runner(model, threads=self.threads)
