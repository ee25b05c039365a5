"""Recursive gated convolution: filtered channels multiply one another, in steps of growing width.

Source: HorNet (Rao et al. 2022, arXiv:2207.14284, eqs. 3 to 6): p_0 and q_0 ... q_(n-1) are parts of W_in LN(x), of C /
2^(n-1) and of C / 2^(n-1), ..., C / 2, C channels; p_(k+1) = g_k(p_k) * DW(q_k) * s, with g_0 nothing and g_k a 1 x 1
convolution; the result is W_out p_n.  MambaClinix (Bian et al. 2024, arXiv:2409.12533) takes it to volumes.  What
differs: the LayerNorm in front of HorNet's block is inside; a width that is not even is rounded down.
Shapes: B batch, C channels, S spatial axes, Q the sum of the widths.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import odd_kernels, whole_number
from medsearch.blocks.nd import CONV, depthwise, to_first, to_last


@MIXERS.add("gnconv")
class GatedRecursiveConv(nn.Module):
    """Let neighbours multiply one another ``order`` times, in a window of ``kernel`` positions per axis.

    Args:
        dim: channels C, kept; at least 2^(order - 1).
        dims: spatial axes, 2 or 3.
        order: number of products n; HorNet has 2, 3, 4 and 5 in its stages.
        kernel: window edge in positions, one for all axes or one per axis (``"1x7x7"``); odd.
        scale: the factor s of every filtered part; HorNet's released networks have 1/3.

    Cost: (C + kernel^dims) * Q + (C / 2^(order - 1) + C) * C + the products of neighbouring widths multiply-adds per
    position, where C is divisible: up to 11/3 * C^2 + 2 * kernel^dims * C.
    """

    FAMILY = "conv"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, order: int = 3, kernel: int | str = 7, scale: float = 1.0) -> None:
        super().__init__()
        whole_number("gnconv", "order", order)
        if dim < 2 ** (order - 1):
            largest = dim.bit_length()
            raise ValueError(f"gnconv: order must be at most {largest} for {dim} channels, got {order}; try {largest}")
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise ValueError(f"gnconv: scale must be a number above 0, got {scale!r}; try 1.0")
        self.kernel = odd_kernels("gnconv", kernel, dims)
        self.dim, self.factor = dim, scale
        self.widths = [dim // 2**step for step in reversed(range(order))]
        filtered = sum(self.widths)
        window: dict[str, Any] = {"kernel_size": self.kernel, "padding": tuple(edge // 2 for edge in self.kernel)}
        self.norm = nn.LayerNorm(dim)
        self.split = nn.Linear(dim, self.widths[0] + filtered)
        self.filter = CONV[dims](filtered, filtered, **window, groups=filtered)
        self.widen = nn.ModuleList(CONV[dims](narrow, wide, 1) for narrow, wide in pairwise(self.widths))
        self.project = CONV[dims](dim, dim, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BCS = to_first(self.split(self.norm(to_last(x_BCS))))
        p_BCS, q_BQS = x_BCS.split([self.widths[0], sum(self.widths)], dim=1)
        q_BQS = depthwise(self.filter, q_BQS) * self.factor
        first_BCS, *gates = q_BQS.split(self.widths, dim=1)
        p_BCS = p_BCS * first_BCS
        for widen, gate_BCS in zip(self.widen, gates, strict=True):
            p_BCS = widen(p_BCS) * gate_BCS
        return self.project(p_BCS)
