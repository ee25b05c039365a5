"""Depthwise convolution: every channel filtered on its own in a k^D window, which may have gaps.

Source: ConvNeXt (Liu et al. 2022, arXiv:2201.03545), the 7 x 7 depthwise layer of its block, there without a norm of
its own; the gaps are those of a dilated convolution (Yu and Koltun 2016, arXiv:1511.07122, eq. 2).  What differs: by
default a BatchNorm follows the filter (it folds into the convolution at export), so that the mixer can be a residual
branch by itself; ``norm="none"`` gives ConvNeXt's form.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import odd_kernels, per_axis
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise


@MIXERS.add("dwconv")
class DepthwiseConv(nn.Module):
    """Filter every channel in a window of ``kernel`` positions per axis.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: window edge in positions, one for all axes or one per axis (``"1x5x5"``); odd, so that the size is kept.
        norm: ``"batch"`` after the filter, or ``"none"``.
        dilation: distance between neighbours in the window, one for all axes or one per axis; 1 for no gaps.

    Cost: kernel^dims * C multiply-adds per position.
    """

    FAMILY = "conv"
    NORM = "batch"

    def __init__(
        self, dim: int, *, dims: int, kernel: int | str = 5, norm: str = "batch", dilation: int | str = 1
    ) -> None:
        super().__init__()
        self.kernel = odd_kernels("dwconv", kernel, dims)
        step = per_axis("dwconv", "dilation", dilation, dims)
        if norm not in ("batch", "none"):
            raise ValueError(f"dwconv: norm must be 'batch' or 'none', got {norm!r}; try 'batch'")
        self.dim = dim
        self.margin = tuple(gap * (edge // 2) for gap, edge in zip(step, self.kernel, strict=True))
        window: dict[str, Any] = {"kernel_size": self.kernel, "padding": self.margin, "dilation": step}
        self.filter = CONV[dims](dim, dim, **window, groups=dim, bias=norm == "none")
        self.norm = BATCH_NORM[dims](dim) if norm == "batch" else nn.Identity()

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(depthwise(self.filter, x_BCS))
