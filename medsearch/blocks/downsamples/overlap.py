"""Downsampling by one strided convolution with overlapping windows, and LayerNorm.

Source: the later embeddings of CvT (Wu et al. 2021, arXiv:2103.15808, section 3.1) and of SegFormer3D (Perera et al.
2024, arXiv:2404.10156): kernel 3, stride 2, padding 1.  What differs: nothing.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.knobs import per_axis
from medsearch.blocks.strides import MapNorm, covering_kernel, overlap_conv, shrunk


@DOWNSAMPLES.add("overlap")
class OverlapEmbedding(nn.Module):
    """Halve every axis (rounding up) with windows that reach into their neighbours.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
        kernel: window edge, odd and no smaller than the stride: a number, or one per axis as in "1x3x3".
        stride: positions per position of the coarser map: a number, or one per axis as in "1x2x2".

    Cost: kernel^dims * in_dim * dim multiply-adds per position of the coarser map.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int, kernel: int | str = 3, stride: int | str = 2) -> None:
        super().__init__()
        self.stride = per_axis("overlap", "stride", stride, dims)
        self.window = covering_kernel("overlap", per_axis("overlap", "kernel", kernel, dims), self.stride, kernel)
        self.reduce = overlap_conv(in_dim, dim, self.window, self.stride)
        self.norm = MapNorm(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(self.reduce(x_BCS))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.stride)
