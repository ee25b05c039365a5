"""What an ONNX file computes over a whole split, for the metrics of the task."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medsearch.data import Split
from medsearch.targets.onnx_runtime import session
from medsearch.tasks import Task


def outputs(data: bytes, images: np.ndarray, *, batch: int = 32) -> Tensor:
    """The outputs (N, ...) in ONNX Runtime for raw images (N, C, *S)."""
    opened = session(data)
    parts = [
        opened.run(None, {"image": np.ascontiguousarray(images[start : start + batch], dtype=np.float32)})[0]
        for start in range(0, len(images), batch)
    ]
    return torch.from_numpy(np.concatenate(parts))


def score(data: bytes, split: Split, task: Task) -> dict[str, float]:
    """The task's metrics over a split, computed through ONNX Runtime."""
    return task.metrics(outputs(data, split.images), task.TARGET.tensor(split.targets))
