"""Downsampling by the mean of a window, then a 1 x 1 convolution with BatchNorm.

Source: the patch embedding of MedViTV2 (Manzari et al. 2025, arXiv:2502.13693) and Next-ViT (Li et al. 2022,
arXiv:2207.05501).  What differs: nothing; the last window of an odd axis is the mean of what is there.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.knobs import per_axis
from medsearch.blocks.nd import BATCH_NORM, CONV
from medsearch.blocks.strides import shrunk

_MEAN = {2: F.avg_pool2d, 3: F.avg_pool3d}


@DOWNSAMPLES.add("avg1x1")
class MeanDown(nn.Module):
    """Halve every axis (rounding up) by means, and mix the channels.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
        stride: edge of a window: a number, or one per axis as in "1x2x2".

    Cost: in_dim * dim multiply-adds per position of the coarser map.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int, stride: int | str = 2) -> None:
        super().__init__()
        self.window = per_axis("avg1x1", "stride", stride, dims)
        self.reduce = CONV[dims](in_dim, dim, 1, bias=False)
        self.norm = BATCH_NORM[dims](dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        window = [min(edge, length) for edge, length in zip(self.window, x_BCS.shape[2:], strict=True)]
        mean_BCS = _MEAN[len(window)](x_BCS, window, list(self.window), ceil_mode=True, count_include_pad=False)
        return self.norm(self.reduce(mean_BCS))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.window)
