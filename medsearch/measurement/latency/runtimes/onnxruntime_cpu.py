"""ONNX Runtime on the processor."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from medsearch.measurement.latency.runtime import RUNTIMES
from medsearch.measurement.latency.timing import clock, runner


@RUNTIMES.add("onnxruntime-cpu")
class OnnxRuntimeCpu:
    """All graph optimisations; one thread is timed by its processor time (``clock`` in ``latency/timing.py``)."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.clock = clock(threads)

    def describe(self) -> dict[str, str]:
        """The version, as installed: the library is loaded where networks are timed, and nowhere else."""
        return {"runtime": f"onnxruntime {version('onnxruntime')} CPU"}

    def runner(self, model: bytes) -> Callable[[], object]:
        """Runs on the calling thread and, with more than one, its helpers."""
        return runner(model, threads=self.threads)
