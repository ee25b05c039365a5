"""A stem of one strided convolution with overlapping windows, and LayerNorm.

Source: the first embedding of CvT (Wu et al. 2021, arXiv:2103.15808, section 3.1) and of SegFormer3D (Perera et al.
2024, arXiv:2404.10156): kernel 7, stride 4.  What differs: every axis is padded by half a window, as in SegFormer3D;
CvT pads by two.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.knobs import per_axis
from medsearch.blocks.strides import MapNorm, covering_kernel, overlap_conv, shrunk


@STEMS.add("overlap")
class OverlapStem(nn.Module):
    """Embed windows that reach into their neighbours.

    Args:
        in_channels: channels of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        kernel: window edge, odd and no smaller than the stride: a number, or one per axis as in "3x7x7".
        stride: image positions between windows: a number, or one per axis as in "1x4x4".

    Cost: kernel^dims * in_channels * dim multiply-adds per position of the map.
    """

    def __init__(self, in_channels: int, dim: int, *, dims: int, kernel: int | str = 7, stride: int | str = 4) -> None:
        super().__init__()
        self.stride = per_axis("overlap stem", "stride", stride, dims)
        edges = per_axis("overlap stem", "kernel", kernel, dims)
        self.window = covering_kernel("overlap stem", edges, self.stride, kernel)
        self.embed = overlap_conv(in_channels, dim, self.window, self.stride)
        self.norm = MapNorm(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(self.embed(x_BCS))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.stride)
