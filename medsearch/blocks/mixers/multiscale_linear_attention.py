"""Multi-scale linear attention: groups of channels, each seen through a window of its own, share one linear attention.

Source: MSLA of MSLAU-Net (Lan et al. 2025, arXiv:2505.18823): group i of C / 4 channels is filtered, f_i =
ReLU(DW_ki(x_i) + x_i) with k = 3, 5, 7, 9; one attention of that width, with softmax of the queries over positions
and of the keys over the channels of a head, reads each, y_i = s_i W (q (k^T v)); a linear layer joins them.  What
differs: positions and channels keep their places, which the public code confuses; softmaxes and sums are in float32.
Shapes: B batch, C channels, S spatial axes, N positions, G groups, W = C / G, H heads, D width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import head_shape
from medsearch.blocks.linear_kernels import linear_product
from medsearch.blocks.nd import CONV, depthwise, to_first, to_last

KERNELS = {2: "3-5-7-9", 3: "3-3-5-5"}


@MIXERS.add("multiscale_linear_attention")
class MultiscaleLinearAttention(nn.Module):
    """Mix all positions by a linear attention that sees every group of channels at another scale.

    Args:
        dim: channels C, kept; a multiple of the number of groups.
        dims: spatial axes, 2 or 3.
        kernels: odd edge of the depthwise window of every group of channels, joined by "-"; None for ``"3-5-7-9"`` in
            2D and ``"3-3-5-5"`` in 3D, where a window of 9 has 729 weights.
        heads: number of heads of the shared attention; None gives as many of ``head_dim`` as fit in a group.
        head_dim: width of a head.

    Cost, with G groups of W channels and inner = heads * head_dim: W * (sum of kernel^dims) + G * (4 * W + 2 *
    head_dim) * inner + C^2 multiply-adds per position.
    """

    FAMILY = "linear_attention"
    NORM = "layer"

    def __init__(
        self, dim: int, *, dims: int, kernels: str | None = None, heads: int | None = None, head_dim: int = 16
    ) -> None:
        super().__init__()
        part = "multiscale_linear_attention"
        edges = self.edges = _edges(part, KERNELS[dims] if kernels is None else kernels)
        if dim % len(edges):
            nearest = -(-dim // len(edges)) * len(edges)
            raise ValueError(f"{part}: dim must be a multiple of its {len(edges)} kernels, got {dim}; try {nearest}")
        width = dim // len(edges)
        self.heads, self.head_dim = head_shape(part, width, heads, head_dim)
        inner = self.heads * self.head_dim
        self.norm = nn.LayerNorm(dim)
        self.scales = nn.ModuleList(_Scale(width, dims, kernel) for kernel in edges)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.proj = nn.Linear(inner, width)
        self.share = nn.Parameter(torch.ones(len(edges)))
        self.join = nn.Linear(dim, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        size, count = x_BCS.shape[2:], len(self.edges)
        groups = to_first(self.norm(to_last(x_BCS))).chunk(count, dim=1)
        seen = [to_last(scale(group_BWS)) for scale, group_BWS in zip(self.scales, groups, strict=True)]
        x_BNGW = torch.stack(seen, dim=-2).flatten(1, -3)
        qkv = self.qkv(x_BNGW).unflatten(-1, (3, self.heads, self.head_dim))
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).flatten(1, 2).unbind(0)
        y = linear_product("swapped", q, k, v).unflatten(0, (-1, count))
        y_BNGW = self.proj(y.permute(0, 3, 1, 2, 4).flatten(-2)) * self.share.unsqueeze(-1)
        return to_first(self.join(y_BNGW.flatten(2)).unflatten(1, size))

    def groups(self) -> dict[str, Group]:
        """The heads of the shared attention."""
        made = (Axis("qkv", unit=self.head_dim, repeats=3),)
        return {"heads": Group(made, Axis("proj.weight", 1, unit=self.head_dim))}


class _Scale(nn.Module):
    """ReLU of a group of channels and what a depthwise window makes of it."""

    def __init__(self, width: int, dims: int, kernel: int) -> None:
        super().__init__()
        self.filter = CONV[dims](width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, x_BWS: Tensor) -> Tensor:
        return F.relu(depthwise(self.filter, x_BWS) + x_BWS)


def _edges(part: str, kernels: str) -> tuple[int, ...]:
    """The numbers in text like ``"3-5-7-9"``."""
    pieces = kernels.split("-") if isinstance(kernels, str) else []
    if not pieces or not all(piece.isdecimal() and int(piece) % 2 for piece in pieces):
        raise ValueError(f"{part}: kernels must be odd numbers joined by '-', got {kernels!r}; try '3-5-7-9'")
    return tuple(int(piece) for piece in pieces)
