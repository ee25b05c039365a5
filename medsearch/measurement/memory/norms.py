"""Results of operators on tensors without contents, as the real operators lay them out.

torch works out shape, strides and type of a fake result, and for norms on the CPU it errs twice.  Both decide what the
next operator takes inside itself: a convolution whose gradient is laid out otherwise is said to reorder what it does
not, and a backward pass that is given statistics of a type that it never sees cannot be run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

_aten = torch.ops.aten


def as_real(func: Any, args: Any, result: Any) -> Any:
    """The fake ``result`` of ``func`` with the strides and types of a real one; most are right as they are."""
    correct = _CORRECTIONS.get(func)
    return result if correct is None or args[0].device.type != "cpu" else correct(args, result)


def _norm(args: Any, result: Any) -> Any:
    """Means and deviations are kept in 32 bits where an input in 16 bits meets parameters in 32."""
    x, parameters = args[0], [arg for arg in args[1:] if isinstance(arg, Tensor)]
    mixed = x.dtype.itemsize == 2 and any(parameter.dtype == torch.float32 for parameter in parameters)
    normed, *statistics = result
    return (normed, *(_like(found, torch.float32) for found in statistics)) if mixed else result


def _batch_norm_backward(args: Any, result: Any) -> Any:
    """The gradient of the input is laid out as the input is, not as the gradient that comes in; or there is none."""
    x, wanted = args[1], args[9][0]
    return (torch.empty_like(x, memory_format=suggest_memory_format(x)) if wanted else None, *result[1:])


def _like(x: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=dtype, device=x.device)


_CORRECTIONS: dict[Any, Callable[[Any, Any], Any]] = {
    _aten.native_batch_norm.default: _norm,
    _aten.native_layer_norm.default: _norm,
    _aten.native_group_norm.default: _norm,
    _aten.native_batch_norm_backward.default: _batch_norm_backward,
}
