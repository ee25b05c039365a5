"""A stem of 3^D convolutions: overlapping, with a BatchNorm that folds at export.

Source: the convolutional stem of "Early convolutions help transformers see better" (Xiao et al. 2021,
arXiv:2106.14881) and of MedFormer (arXiv:2507.02488): one stride-2 convolution per halving.  What differs: stride 1
keeps the full resolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.nd import BATCH_NORM, CONV


@STEMS.add("conv")
class ConvStem(nn.Module):
    """Image to first feature map with 3^D convolutions, BatchNorm, and GELU between them.

    Args:
        in_channels: channels of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        stride: 1, 2 or 4 image positions per position of the map.
    """

    def __init__(self, in_channels: int, dim: int, *, dims: int, stride: int = 2) -> None:
        super().__init__()
        if stride not in (1, 2, 4):
            raise ValueError(f"conv stem: stride must be 1, 2 or 4, got {stride!r}; try 2")
        widths = [in_channels, dim] if stride < 4 else [in_channels, max(1, dim // 2), dim]
        layers: list[nn.Module] = []
        for source, target in zip(widths, widths[1:], strict=False):
            if layers:
                layers.append(nn.GELU())
            layers.append(CONV[dims](source, target, 3, stride=min(stride, 2), padding=1, bias=False))
            layers.append(BATCH_NORM[dims](target))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.layers(x_BCS)
