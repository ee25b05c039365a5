"""Local concentration: two depthwise filters with an activation between, which sharpen what global attention blurred.

Source: the local concentration module of L2ViT (Zheng 2025, arXiv:2501.16182): DW(BN(GELU(DW(LN(x))))), placed as a
residual branch after linear attention.  What differs: any number of axes, and another window per axis.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import odd_kernels
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise, to_first, to_last


@MIXERS.add("local_concentration")
class LocalConcentration(nn.Module):
    """Filter every channel twice in a window of ``kernel`` positions per axis, with a GELU between.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: window edge in positions, one for all axes or one per axis (``"1x5x5"``); odd; L2ViT has 7.

    Cost: 2 * kernel^dims * C multiply-adds per position.
    """

    FAMILY = "conv"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, kernel: int | str = 7) -> None:
        super().__init__()
        part = "local_concentration"
        self.kernel = odd_kernels(part, kernel, dims)
        self.dim, self.act = dim, nn.GELU()
        window: dict[str, Any] = {"kernel_size": self.kernel, "padding": tuple(edge // 2 for edge in self.kernel)}
        self.norm = nn.LayerNorm(dim)
        self.filter = CONV[dims](dim, dim, **window, groups=dim)
        self.filter_norm = BATCH_NORM[dims](dim)
        self.refilter = CONV[dims](dim, dim, **window, groups=dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        filtered_BCS = depthwise(self.filter, to_first(self.norm(to_last(x_BCS))))
        return depthwise(self.refilter, self.filter_norm(self.act(filtered_BCS)))
