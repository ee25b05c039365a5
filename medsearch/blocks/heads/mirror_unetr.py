"""Residual convolutional decoder: the stage's features through a residual block, joined with those from below.

Source: the segmentation decoder of FullMLP (arXiv:2311.16707) and its released code: residual blocks of two 3^D
convolutions on every level's features, transposed convolution, concatenation, another residual block, a 3^D
convolution to classes.  What differs: where a level is not twice the one below, the doubled map is cut or interpolated.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Up, resize
from medsearch.blocks.nd import BATCH_NORM, CONV


class ResidualConvs(nn.Module):
    """ReLU(norm(conv(ReLU(norm(conv(x))))) + x), x through a normed 1^D convolution where the width changes."""

    def __init__(self, dim: int, out: int, *, dims: int) -> None:
        super().__init__()
        conv, norm = CONV[dims], BATCH_NORM[dims]
        self.body = nn.Sequential(
            conv(dim, out, 3, padding=1), norm(out), nn.ReLU(), conv(out, out, 3, padding=1), norm(out)
        )
        self.skip = nn.Identity() if dim == out else nn.Sequential(conv(dim, out, 1), norm(out))
        self.act = nn.ReLU()

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.act(self.body(x_BCS) + self.skip(x_BCS))


@HEADS.add("mirror_unetr")
class MirrorUNETRHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        up: how a level is reached from below: ``"transpose"``d convolution, or ``"resize"`` after a 1^D convolution.

    Cost: (5 * 3^dims + 2) * C^2 multiply-adds per position of every level but the coarsest, where it is
    2 * 3^dims * C^2; 2^dims * C * C' per position to go up, 3^dims * C * outputs per position of the finest.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, up: str = "transpose") -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.skips = nn.ModuleList(ResidualConvs(width, width, dims=dims) for width in widths)
        self.ups = nn.ModuleList(Up("mirror_unetr", coarse, fine, dims=dims, up=up) for fine, coarse in pairs)
        self.joins = nn.ModuleList(ResidualConvs(2 * fine, fine, dims=dims) for fine, _ in pairs)
        self.predict = CONV[dims](widths[0], outputs, 3, padding=1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = self.skips[-1](features[-1])
        for level in range(len(features) - 2, -1, -1):
            skip_BCS = self.skips[level](features[level])
            x_BCS = self.joins[level](torch.cat([self.ups[level](x_BCS, skip_BCS.shape[2:]), skip_BCS], dim=1))
        return resize(self.predict(x_BCS), image_BCS.shape[2:])
