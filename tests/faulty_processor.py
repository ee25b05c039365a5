"""A processor on which matrix products in 16 bits can divide by zero, for ``medsearch --plugin faulty_processor``.

A stand-in for what torch 2.13 does on processors with AMX when one thread multiplies long thin matrices in bf16: here,
too, it is the operator itself that ends the process, in whatever child it is run.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LONG = 512
"""From so many rows on a product in 16 bits divides by zero."""


def product(func: Any, args: Any) -> Tensor | None:
    """The long matrix of a matrix product; the gradients of a convolution over single positions are one, too."""
    if func is torch.ops.aten.mm.default:
        return max(args[:2], key=lambda matrix: max(matrix.shape))
    if func is torch.ops.aten.convolution_backward.default and max(args[2].shape[2:]) == 1:
        return args[0].movedim(1, -1).flatten(0, -2)
    return None


class Faulty(TorchDispatchMode):
    """Ends the process in the product that this processor cannot do."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        matrix = product(func, args)
        if matrix is not None and matrix.dtype is torch.bfloat16 and max(matrix.shape) >= LONG:
            os.kill(os.getpid(), signal.SIGFPE)
        return func(*args, **(kwargs or {}))


def faulty(function: Any) -> Any:
    """``function``, carried out on this processor."""

    @functools.wraps(function)
    def wrapped(*args: Any, **named: Any) -> Any:
        with Faulty():
            return function(*args, **named)

    return wrapped


if multiprocessing.parent_process() is not None:
    from medsearch.measurement.memory import workspace
    from medsearch.pipeline import measurement, precision
    from medsearch.train.evaluators.training import Training

    workspace.run_operator = faulty(workspace.run_operator)
    Training.__call__ = faulty(Training.__call__)  # type: ignore[method-assign]
    precision.block_seconds = faulty(precision.block_seconds)
    measurement.step_memory = faulty(measurement.step_memory)
