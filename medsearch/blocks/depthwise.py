"""The gradient of large depthwise filters, put together from gradients of 3 x 3 filters.

A weight gradient is one number per tap: the sum of the output's gradient times the image moved by the tap.  The taps of
a large window are those of several 3 x 3 windows, and for these oneDNN has a fast kernel, in 32 bits and in 16, while
for any other size it falls back to a slow one.  Forwards and backwards together, windows of 5 and 7 are 1.1 to 1.4
times as fast in 32 bits and 2.2 to 4.1 times in bfloat16 (AMD EPYC of the fourth generation, one thread, torch 2.13:
``python -m medsearch.studies.depthwise``).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

WINDOW = 3
"""The side that there is a fast kernel for."""


def depthwise_by_pieces(x_BCHW: Tensor, weight_C1KL: Tensor, padding: tuple[int, int]) -> Tensor:
    """The depthwise convolution of a map with one filter per channel, stride and dilation 1; (B, C, H', W').

    Args:
        x_BCHW: the map.
        weight_C1KL: the filters, with at least three rows and columns, of the same type as the map.
        padding: zeros around the map, by axis.
    """
    found: Tensor = _Depthwise.apply(x_BCHW, weight_C1KL, padding)
    return found


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_C1KL: Tensor, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight_C1KL)
        ctx.padding = padding
        return F.conv2d(x_BCHW, weight_C1KL, padding=padding, groups=x_BCHW.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_BCHW, weight_C1KL = ctx.saved_tensors
        of_x = (
            _gradients(grad_BCHW, x_BCHW, weight_C1KL, ctx.padding, of_weight=False)
            if ctx.needs_input_grad[0]
            else None
        )
        of_weight = _by_pieces(grad_BCHW, x_BCHW, weight_C1KL, ctx.padding) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None


def _by_pieces(grad_BCHW: Tensor, x_BCHW: Tensor, weight_C1KL: Tensor, padding: tuple[int, int]) -> Tensor:
    """The gradient of the filters, 3 x 3 taps at a time; the last piece of an axis may overlap the one before."""
    rows, columns = padding
    height, width = grad_BCHW.shape[2:]
    padded_BCHW = F.pad(x_BCHW, (columns, columns, rows, rows))
    found_C1KL = torch.empty_like(weight_C1KL)
    for top in _starts(weight_C1KL.shape[2]):
        for left in _starts(weight_C1KL.shape[3]):
            near = padded_BCHW[:, :, top : top + height + WINDOW - 1, left : left + width + WINDOW - 1]
            taps = (slice(None), slice(None), slice(top, top + WINDOW), slice(left, left + WINDOW))
            found_C1KL[taps] = _gradients(grad_BCHW, near, weight_C1KL[taps], (0, 0), of_weight=True)
    return found_C1KL


def _starts(length: int) -> list[int]:
    """Where pieces begin."""
    return sorted({min(start, length - WINDOW) for start in range(0, length, WINDOW)})


def _gradients(
    grad_BCHW: Tensor, x_BCHW: Tensor, weight_C1KL: Tensor, padding: tuple[int, int], *, of_weight: bool
) -> Tensor:
    channels = x_BCHW.shape[1]
    wanted = [not of_weight, of_weight, False]
    found = torch.ops.aten.convolution_backward(
        grad_BCHW, x_BCHW, weight_C1KL, None, [1, 1], list(padding), [1, 1], False, [0, 0], channels, wanted
    )
    gradient: Tensor = found[of_weight]
    return gradient
