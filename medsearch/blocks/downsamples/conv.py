"""Downsampling by a strided convolution, in the two published forms.

Source: ``conv3s2`` as in MedFormer (arXiv:2507.02488): 3 x 3, stride 2, then BatchNorm; ``conv2s2`` as in ConvNeXt
(arXiv:2201.03545): LayerNorm, then 2 x 2, stride 2; in MSLAU-Net (arXiv:2505.18823) the norm comes after.  What
differs: ``conv2s2`` zero-pads odd sizes instead of dropping the last row.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.knobs import one_of, per_axis, yes_or_no
from medsearch.blocks.nd import pad_to_multiple, to_first, to_last
from medsearch.blocks.strides import map_norm, overlap_conv, patch_conv, shrunk


@DOWNSAMPLES.add("conv3s2")
class OverlapDown(nn.Module):
    """Halve every axis (rounding up) with an overlapping 3^D convolution and a norm.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
        stride: positions per position of the coarser map, at most 3: a number, or one per axis as in "1x2x2".
        norm: after the convolution: ``"batch"``, ``"layer"`` or ``"none"``.
        bias: a convolution with biases, as in MedFormer, which a BatchNorm makes redundant.

    Cost: 3^dims * in_dim * dim multiply-adds per position of the coarser map.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        dims: int,
        stride: int | str = 2,
        norm: str = "batch",
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.stride = per_axis("conv3s2", "stride", stride, dims)
        if max(self.stride) > 3:
            raise ValueError(f"conv3s2: stride must be at most the 3 positions of a window, got {stride!r}; try 2")
        self.normed = one_of("conv3s2", "norm", norm, ("batch", "layer", "none")) != "none"
        self.reduce = overlap_conv(in_dim, dim, (3,) * dims, self.stride, bias=yes_or_no("conv3s2", "bias", bias))
        self.norm = map_norm(norm, dim, dims)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(self.reduce(x_BCS))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.stride)


@DOWNSAMPLES.add("conv2s2")
class PatchDown(nn.Module):
    """Halve every axis (rounding up) with a non-overlapping 2^D convolution and LayerNorm.

    Args:
        in_dim: channels of the finer stage.
        dim: channels of the coarser stage.
        dims: spatial axes, 2 or 3.
        stride: positions per position of the coarser map, and edge of the window: a number, or one per axis as in
            "1x2x2".
        norm: the LayerNorm ``"before"`` the convolution (ConvNeXt, L2ViT), ``"after"`` it (MSLAU-Net, FullMLP), or
            ``"none"``.

    Cost: stride^dims * in_dim * dim multiply-adds per position of the coarser map.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int, stride: int | str = 2, norm: str = "before") -> None:
        super().__init__()
        self.window = per_axis("conv2s2", "stride", stride, dims)
        one_of("conv2s2", "norm", norm, ("before", "after", "none"))
        self.before = norm == "before"
        self.normed = {"before": in_dim, "after": dim, "none": 0}[norm]
        self.norm: nn.Module = nn.LayerNorm(self.normed) if self.normed else nn.Identity()
        self.reduce = patch_conv(in_dim, dim, self.window)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BSC = to_last(x_BCS)
        x_BSC = pad_to_multiple(self.norm(x_BSC) if self.before else x_BSC, self.window)
        y_BCS = self.reduce(to_first(x_BSC))
        return y_BCS if self.before else to_first(self.norm(to_last(y_BCS)))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.window)
