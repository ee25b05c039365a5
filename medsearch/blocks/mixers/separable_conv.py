"""Separable convolution: every channel filtered on its own, between two 1 x 1 convolutions.

Source: the local feature extraction block of MSLAU-Net (Lan et al. 2025, arXiv:2505.18823), W2 DW(W1 BN(x)), all three
layers with a bias and no activation between them, as in UniFormer (Li et al. 2022, arXiv:2201.09450, section 3.2).
What differs: any number of axes, another window per axis, and a width of its own for the filtered channels.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, odd_kernels
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise


@MIXERS.add("separable_conv")
class SeparableConv(nn.Module):
    """Mix channels, filter each of them in a window, mix them again: C -> hidden -> depthwise k -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: window edge in positions, one for all axes or one per axis (``"1x5x5"``); odd; MSLAU-Net has 5.
        hidden: number of filtered channels; None for C, as in MSLAU-Net.

    Cost: (2 * C + kernel^dims) * hidden multiply-adds per position.
    """

    FAMILY = "conv"
    NORM = "batch"

    def __init__(self, dim: int, *, dims: int, kernel: int | str = 5, hidden: int | None = None) -> None:
        super().__init__()
        part = "separable_conv"
        self.kernel = odd_kernels(part, kernel, dims)
        self.dim, self.hidden = dim, hidden_width(part, dim, 1.0, hidden)
        window: dict[str, Any] = {"kernel_size": self.kernel, "padding": tuple(edge // 2 for edge in self.kernel)}
        self.norm = BATCH_NORM[dims](dim)
        self.expand = CONV[dims](dim, self.hidden, 1)
        self.filter = CONV[dims](self.hidden, self.hidden, **window, groups=self.hidden)
        self.project = CONV[dims](self.hidden, dim, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.project(depthwise(self.filter, self.expand(self.norm(x_BCS))))

    def groups(self) -> dict[str, Group]:
        """The filtered channels with their filters."""
        return {"hidden": Group((Axis("expand"), Axis("filter")), Axis("project.weight", 1))}
