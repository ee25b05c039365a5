"""Depthwise convolution: every channel filtered on its own in a k^D window.

Source: ConvNeXt (Liu et al. 2022, arXiv:2201.03545), the 7 x 7 depthwise layer of its block, there without a norm of
its own.  What differs: by default a BatchNorm follows the filter (it folds into the convolution at export), so that
the mixer can be a residual branch by itself; ``norm="none"`` gives ConvNeXt's form.  Shapes: B batch, C channels, S
spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise, odd_kernel


@MIXERS.add("dwconv")
class DepthwiseConv(nn.Module):
    """Filter every channel in a window of ``kernel`` positions per axis.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: window edge in positions; odd, so that the size is kept.
        norm: ``"batch"`` after the filter, or ``"none"``.

    Cost: kernel^dims * C multiply-adds per position.
    """

    FAMILY = "conv"
    NORM = "batch"

    def __init__(self, dim: int, *, dims: int, kernel: int = 5, norm: str = "batch") -> None:
        super().__init__()
        odd_kernel("dwconv", kernel)
        if norm not in ("batch", "none"):
            raise ValueError(f"dwconv: norm must be 'batch' or 'none', got {norm!r}; try 'batch'")
        self.filter = CONV[dims](dim, dim, kernel, padding=kernel // 2, groups=dim, bias=norm == "none")
        self.norm = BATCH_NORM[dims](dim) if norm == "batch" else nn.Identity()

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(depthwise(self.filter, x_BCS))
