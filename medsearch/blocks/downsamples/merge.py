"""Patch merging: the 2^D neighbours of a window side by side, LayerNorm, one linear map.

Source: Swin (Liu et al. 2021, arXiv:2103.14030, section 3.1): 2^D C -> LayerNorm -> out, no bias.  What differs:
neighbours are ordered by position (last axis fastest), which is a fixed permutation of the release's order.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.knobs import per_axis
from medsearch.blocks.nd import pad_to_multiple, split_blocks, to_first, to_last
from medsearch.blocks.strides import shrunk


@DOWNSAMPLES.add("merge")
class PatchMerging(nn.Module):
    """Halve every axis (rounding up, zero-padding odd sizes) by merging 2^D neighbours into one position.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
        stride: neighbours that are merged per axis: a number, or one per axis as in "1x2x2".

    Cost: stride^dims * in_dim * dim multiply-adds per position of the coarser map.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int, stride: int | str = 2) -> None:
        super().__init__()
        self.window = per_axis("merge", "stride", stride, dims)
        self.merged = prod(self.window) * in_dim
        self.norm = nn.LayerNorm(self.merged)
        self.reduce = nn.Linear(self.merged, dim, bias=False)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BSC = pad_to_multiple(to_last(x_BCS), self.window)
        grid = shrunk(x_BSC.shape[1:-1], self.window)
        merged_BSC = split_blocks(x_BSC, self.window).reshape(x_BSC.shape[0], *grid, -1)
        return to_first(self.reduce(self.norm(merged_BSC)))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.window)
