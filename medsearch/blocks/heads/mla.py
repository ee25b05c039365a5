"""Multi-level aggregation decoder: deep levels climb to the finest, are summed top-down, refined and concatenated.

Source: MSLAU-Net (arXiv:2505.18823, section on the decoder) and its released code.  A deep level passes one 1^D
convolution with BatchNorm and ReLU and one interpolation per level, its width becoming that of the level it reaches;
running sums from fine to coarse are refined by two 3^D convolutions each, doubled in size, concatenated and mapped to
classes by a 3^D convolution.  What differs: a 1^D convolution comes before the interpolation in front of it, with which
it commutes; steps go to the actual size of the next level; the finest stage gets a 1^D convolution of its own where its
width is not ``dim``; maps are not doubled beyond the image.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import conv_norm_relu, doubled, resize
from medsearch.blocks.knobs import whole_number
from medsearch.blocks.nd import BATCH_NORM, CONV


class Climb(nn.Module):
    """One level to the size of the finest, through the widths ``path``, its own first."""

    def __init__(self, path: tuple[int, ...], *, dims: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(CONV[dims](a, b, 1, bias=False) for a, b in pairwise(path))
        self.norms = nn.ModuleList(BATCH_NORM[dims](width) for width in path[1:])
        self.act = nn.ReLU()

    def forward(self, x_BCS: Tensor, sizes: list[tuple[int, ...]]) -> Tensor:
        """``sizes``: of the levels on the way, the level's own first, the finest last."""
        for conv, norm, size in zip(self.convs, self.norms, sizes, strict=False):
            x_BCS = self.act(norm(resize(conv(x_BCS), size, corners=True)))
        return resize(x_BCS, sizes[-1], corners=True)


@HEADS.add("mla")
class MLAHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        dim: channels of the decoder; the source has 64, which is also the width of its finest stage.

    Cost: mostly 2 * 3^dims * dim^2 multiply-adds per level and position of the finest stage, and
    3^dims * levels * dim * outputs per position of the doubled map.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, dim: int = 64) -> None:
        super().__init__()
        whole_number("mla", "dim", dim)
        self.lateral = Climb((widths[0],) if widths[0] == dim else (widths[0], dim), dims=dims)
        self.climbs = nn.ModuleList(Climb((*widths[level:0:-1], dim), dims=dims) for level in range(1, len(widths)))
        self.refines = nn.ModuleList(
            nn.Sequential(conv_norm_relu(dim, dim, 3, dims=dims), conv_norm_relu(dim, dim, 3, dims=dims))
            for _ in widths
        )
        self.predict = CONV[dims](len(widths) * dim, outputs, 3, padding=1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        sizes = [tuple(x_BCS.shape[2:]) for x_BCS in features]
        x_BCS = self.lateral(features[0], sizes[:1])
        refined = [self.refines[0](x_BCS)]
        for level, climb in enumerate(self.climbs, start=1):
            x_BCS = x_BCS + climb(features[level], sizes[level::-1])
            refined.append(self.refines[level](x_BCS))
        image = tuple(image_BCS.shape[2:])
        x_BCS = resize(torch.cat(refined, dim=1), doubled(sizes[0], image), corners=True)
        return resize(self.predict(x_BCS), image, corners=True)
