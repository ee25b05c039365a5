"""What a network's latency is measured in: one class for each runtime, under the name that ``--runtime`` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from medsearch.core.registry import Registry

DEFAULT = "onnxruntime-cpu"

RUNTIMES = Registry("runtime", "medsearch.measurement.latency.runtimes")


class Runtime(Protocol):
    """Runs ONNX files at batch 1.

    Made with the number of threads on the host; raises UsageError where this machine cannot run it.
    """

    def __init__(self, threads: int) -> None: ...

    def describe(self) -> dict[str, str]:
        """What latencies depend on: ``"runtime"`` with its version, and the device where it is not the host."""
        ...

    def runner(self, model: bytes) -> Callable[[], object]:
        """A call that runs ``model`` once, to the end, on inputs of its own shapes."""
        ...

    def clock(self) -> float:
        """Seconds, by the clock that says how long a run takes."""
        ...
