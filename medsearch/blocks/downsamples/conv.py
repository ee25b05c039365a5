"""Downsampling by a strided convolution, in the two published forms.

Source: ``conv3s2`` as in MedFormer (arXiv:2507.02488): 3 x 3, stride 2, then BatchNorm; ``conv2s2`` as in ConvNeXt
(arXiv:2201.03545): LayerNorm, then 2 x 2, stride 2.  What differs: ``conv2s2`` zero-pads odd sizes instead of dropping
the last row.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.nd import BATCH_NORM, CONV, pad_to_multiple, to_first, to_last


@DOWNSAMPLES.add("conv3s2")
class OverlapDown(nn.Module):
    """Halve every axis (rounding up) with an overlapping 3^D convolution and BatchNorm.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int) -> None:
        super().__init__()
        self.reduce = CONV[dims](in_dim, dim, 3, stride=2, padding=1, bias=False)
        self.norm = BATCH_NORM[dims](dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(self.reduce(x_BCS))


@DOWNSAMPLES.add("conv2s2")
class PatchDown(nn.Module):
    """Halve every axis (rounding up) with LayerNorm and a non-overlapping 2^D convolution.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int) -> None:
        super().__init__()
        self.window = (2,) * dims
        self.norm = nn.LayerNorm(in_dim)
        self.reduce = CONV[dims](in_dim, dim, 2, stride=2)

    def forward(self, x_BCS: Tensor) -> Tensor:
        normed_BSC = self.norm(to_last(x_BCS))
        return self.reduce(to_first(pad_to_multiple(normed_BSC, self.window)))
