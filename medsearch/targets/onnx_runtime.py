"""What targets that run ONNX files in ONNX Runtime share: sessions, the inputs of a run, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from medsearch.exporters.onnx import to_onnx, to_onnx_fast
from medsearch.targets.target import Shape, clock


def session(model: bytes | Path, *, threads: int = 1, provider: str = "CPUExecutionProvider") -> Any:
    """An ONNX Runtime session with all graph optimisations, pinned to ``threads``; by default on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads > 1 else "1")
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=[provider])


def feeds(opened: Any, shapes: tuple[Shape, ...] | None) -> dict[str, np.ndarray]:
    """Random inputs, in the range of raw intensities, for a session; without ``shapes`` as the file says, batch 1."""
    rng = np.random.default_rng(0)
    nodes = opened.get_inputs()
    shapes = input_shapes(opened) if shapes is None else shapes
    return {node.name: rng.uniform(0, 255, shape).astype(np.float32) for node, shape in zip(nodes, shapes, strict=True)}


def input_shapes(opened: Any) -> tuple[Shape, ...]:
    """The shapes of a session's inputs as the file says them, 1 where it leaves a side open."""
    return tuple(tuple(side if isinstance(side, int) else 1 for side in node.shape) for node in opened.get_inputs())


class OnnxRuntime:
    """A target of ONNX files but for what it says of itself: a subclass adds ``describe``, and how a file is opened."""

    suffix = ".onnx"

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.clock = clock(threads)

    def open(self, artifact: bytes) -> Any:
        """A session; this one is on the processor, with all graph optimisations."""
        return session(artifact, threads=self.threads)

    def export(self, network: nn.Module, image_1CS: Tensor) -> bytes:
        """A file that takes any batch size (:func:`~medsearch.exporters.onnx.to_onnx`)."""
        _, channels, *size = image_1CS.shape
        return to_onnx(network, tuple(size), channels)

    def export_fast(self, module: nn.Module, inputs: tuple[Any, ...]) -> bytes:
        """A file by the tracing exporter (:func:`~medsearch.exporters.onnx.to_onnx_fast`), which runs equally fast."""
        return to_onnx_fast(module, inputs)

    def input_shapes(self, artifact: bytes) -> tuple[Shape, ...]:
        """As the file says them."""
        return input_shapes(self.open(artifact))

    def runner(self, artifact: bytes) -> Callable[[], object]:
        """Runs on the calling thread and, with more than one, its helpers."""
        opened = self.open(artifact)
        inputs = feeds(opened, None)
        return lambda: opened.run(None, inputs)

    def outputs(self, artifact: bytes, images_NCS: np.ndarray) -> np.ndarray:
        """All images in one run."""
        opened = self.open(artifact)
        (node,) = opened.get_inputs()
        return np.asarray(opened.run(None, {node.name: images_NCS})[0])
