"""What a deployment target is: one class, under the name that ``--target`` takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.core.errors import UsageError
from medsearch.exporters.plain import plain_copy
from medsearch.targets import DEFAULT, TARGETS

Shape = tuple[int, ...]
TAKEN = {".pt": "the network itself", ".py": "backbone.py"}
"""Endings of the other files that a network is delivered as."""


class Target(Protocol):
    """Exports networks to artifacts - files, as bytes - and runs them, one image at a time.

    Made with the number of threads on the host; raises UsageError where this machine cannot run it.  Its methods are
    called in several processes, each of which makes its own: what one is told is an artifact, never a network.

    Attributes:
        suffix: ending of its files, with the dot.  One that ends in ``.onnx`` is delivered as ``model.onnx`` itself.
    """

    suffix: str

    def __init__(self, threads: int) -> None: ...

    def describe(self) -> dict[str, str]:
        """What latencies depend on: ``"runtime"`` with its version, and the device where it is not the host."""
        ...

    def export(self, network: nn.Module, image_1CS: Tensor) -> bytes:
        """The artifact that is delivered, weights inside; the network stays as it was, on its device and in its mode.

        Raises:
            RefusedError: where an operation has no form here.
        """
        ...

    def export_fast(self, module: nn.Module, inputs: tuple[Any, ...]) -> bytes:
        """An artifact that is only timed, of a part or of a whole network; a search makes hundreds of them.

        ``inputs`` are tensors of batch 1, or lists of them: a head takes the maps of all stages, and the image.
        """
        ...

    def input_shapes(self, artifact: bytes) -> tuple[Shape, ...]:
        """The shapes of what ``artifact`` takes, at batch 1."""
        ...

    def runner(self, artifact: bytes) -> Callable[[], object]:
        """A call that runs ``artifact`` once, to the end, on inputs of its own shapes."""
        ...

    def outputs(self, artifact: bytes, images_NCS: np.ndarray) -> np.ndarray:
        """What an artifact of a network gives for raw images in float32: (N, ...), in the order given."""
        ...

    def clock(self) -> float:
        """Seconds, by the clock that says how long a run takes (:func:`clock` gives one)."""
        ...


def clock(threads: int) -> Callable[[], float]:
    """Seconds to time a runtime by that computes on the processor, in the calling thread if it is given only one.

    With one thread its processor time is what a run takes when nothing else has the processor; with several, only the
    time that passes says how long they took together.
    """
    return time.thread_time if threads == 1 else time.perf_counter


def make_target(name: str, threads: int = 1) -> Target:
    """The target called ``name``, on so many threads of the host.

    Raises:
        UsageError: if there is none, if it cannot run here, or if its files would take the place of others.
    """
    made: Target = TARGETS.find(name, where="--target", error=UsageError)(threads)
    if made.suffix in TAKEN:
        problem = f"the files of '{name}' end in {made.suffix}, as {TAKEN[made.suffix]} does."
        raise UsageError("--target", problem, "Give its class another suffix, such as .engine.")
    return made


def named_by_suffix(suffix: str, *, where: str) -> str:
    """The name of the target whose files end so; of several the default, else the first by name.

    Raises:
        UsageError: if there is none.
    """
    known = {TARGETS[name].suffix: name for name in (*reversed(list(TARGETS)), DEFAULT)}  # type: ignore[attr-defined]
    if suffix not in known:
        remedy = f"Targets have files that end in {', '.join(sorted(known))}.  One of your own: medsearch --plugin ..."
        raise UsageError(where, f"no deployment target has files that end in '{suffix}'.", remedy)
    return known[suffix]


def difference(target: Target, artifact: bytes, network: nn.Module, images_NCS: np.ndarray) -> float:
    """Largest difference between an artifact and its network, relative to the largest output; infinite if no number.

    The raw images go through one alone and all at once.
    """
    plain = plain_copy(network)
    found = []
    for batch in (images_NCS[:1], images_NCS):
        image_BCS = np.ascontiguousarray(batch, dtype=np.float32)
        seen = np.asarray(target.outputs(artifact, image_BCS))
        with torch.no_grad():
            expected = plain(torch.from_numpy(image_BCS)).numpy()
        if seen.shape != expected.shape:
            return math.inf
        found.append(np.abs(seen - expected).max() / max(np.abs(expected).max(), 1e-30))
    largest = float(np.max(found))
    return largest if math.isfinite(largest) else math.inf
