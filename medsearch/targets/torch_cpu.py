"""torch on the processor: a program of ``torch.export``, run operator by operator as torch itself does.

Loading a program can run code that lies in it (torch unpickles parts of it), so open only those of your own, or of
somebody you trust.  medsearch opens what it has just exported, and what ``verify`` and ``bench`` are told to.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from medsearch.core.errors import RefusedError
from medsearch.exporters.plain import plain_copy
from medsearch.targets import TARGETS
from medsearch.targets.target import Shape, clock


@TARGETS.add("torch-cpu")
class TorchCpu:
    """Programs of fixed shapes, batch 1; one thread is timed by its processor time."""

    suffix = ".pt2"

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.clock = clock(threads)

    def describe(self) -> dict[str, str]:
        """The version of torch."""
        return {"runtime": f"torch {torch.__version__} CPU"}

    def export(self, network: nn.Module, image_1CS: Tensor) -> bytes:
        """A program that takes one image.

        Raises:
            RefusedError: where torch cannot trace the network.
        """
        try:
            return self.export_fast(network, (image_1CS,))
        except Exception as problem:  # the exporter has no common class for what it refuses
            reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
            raise RefusedError("torch.export", f"the exporter refused the network: {reason}") from problem

    def export_fast(self, module: nn.Module, inputs: tuple[Any, ...]) -> bytes:
        """The same way: there is no faster one."""
        file = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter warns of its own deprecated objects
            torch.export.save(torch.export.export(plain_copy(module), inputs), file)
        return file.getvalue()

    def input_shapes(self, artifact: bytes) -> tuple[Shape, ...]:
        """Those of the inputs that the program was traced with."""
        return tuple(tuple(one.shape) for one in tree_leaves(_example(_load(artifact))))

    def runner(self, artifact: bytes) -> Callable[[], object]:
        """Runs without the checks of its inputs; has all of torch in this process compute with ``threads``."""
        torch.set_num_threads(self.threads)
        program = _load(artifact)
        rng = torch.Generator().manual_seed(0)
        inputs = tree_map(lambda one: 255 * torch.rand(one.shape, generator=rng), _example(program))
        forward = program.module().forward

        def run() -> object:
            with torch.inference_mode():
                return forward(*inputs)

        return run

    def outputs(self, artifact: bytes, images_NCS: np.ndarray) -> np.ndarray:
        """One image after the other."""
        network = _load(artifact).module()
        with torch.inference_mode():
            return np.concatenate([network(image_1CS).numpy() for image_1CS in torch.from_numpy(images_NCS).split(1)])


def _load(artifact: bytes) -> torch.export.ExportedProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(io.BytesIO(artifact))


def _example(program: torch.export.ExportedProgram) -> tuple[Any, ...]:
    """The positional inputs that a program was traced with; it keeps them."""
    assert program.example_inputs is not None
    inputs: tuple[Any, ...] = program.example_inputs[0]
    return inputs
