"""Average pooling: every position looks at the mean of its neighbours, with nothing to learn about them.

Source: PoolFormer (Yu et al. 2022, arXiv:2111.11418, eq. 4): pool(u) - u with u = norm(x); the mean at a border is
that of the positions on the map.  What differs: the norm is a LayerNorm over channels at every position, where
PoolFormer has a GroupNorm over the whole map; any number of axes.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import odd_kernels
from medsearch.blocks.nd import to_first, to_last


@MIXERS.add("pooling")
class Pooling(nn.Module):
    """Mix the positions of a window of ``kernel`` positions per axis by their mean.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: window edge in positions, one for all axes or one per axis (``"1x3x3"``); odd.

    Cost: no multiply-adds.
    """

    FAMILY = "control"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, kernel: int | str = 3) -> None:
        super().__init__()
        self.kernel = odd_kernels("pooling", kernel, dims)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BSC = self.norm(to_last(x_BCS))
        *depth, high, wide = self.kernel
        y_BSC = _means(x_BSC.reshape(-1, *x_BSC.shape[-3:]), (high, wide)).reshape(x_BSC.shape)
        for deep in depth:
            y_BSC = _means(y_BSC.flatten(2, 3), (deep, 1)).reshape(x_BSC.shape)
        return to_first(y_BSC - x_BSC)


def _means(x_BHWC: Tensor, kernel: tuple[int, int]) -> Tensor:
    """The mean of every window, of those positions of it that are on the map."""
    margin = (kernel[0] // 2, kernel[1] // 2)
    return to_last(F.avg_pool2d(to_first(x_BHWC), kernel, stride=1, padding=margin, count_include_pad=False))
