"""A light decoder for dense prediction: top-down sums of the stage features, then detail at image resolution.

Source: the top-down pathway of feature pyramid networks (Lin et al. 2017, arXiv:1612.03144, section 3).  What differs:
each level is refined by a depthwise-separable convolution, and the last step, at full resolution, also sees the image
itself through a 3^D convolution, because in medical images the detail at full resolution decides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Separable, resize
from medsearch.blocks.knobs import whole_number
from medsearch.blocks.nd import BATCH_NORM, CONV


@HEADS.add("pyramid")
class PyramidHead(nn.Module):
    """Stage features and image to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        channels: the image's channels.
        dim: channels of the decoder.
        detail: channels of the decoder at image resolution.

    Cost: (C + 3^dims + dim) * dim multiply-adds per position of a level, dim * detail per position of the finest, and
    (3^dims * (channels + 2 * detail) + outputs) * detail per position of the image.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(
        self, widths: tuple[int, ...], *, dims: int, outputs: int, channels: int, dim: int = 32, detail: int = 16
    ) -> None:
        super().__init__()
        whole_number("pyramid", "dim", dim)
        whole_number("pyramid", "detail", detail)
        self.laterals = nn.ModuleList(CONV[dims](width, dim, 1) for width in widths)
        self.refines = nn.ModuleList(Separable(dim, dims=dims) for _ in widths)
        self.image = CONV[dims](channels, detail, 3, padding=1)
        self.squeeze = CONV[dims](dim, detail, 1)
        self.fuse = nn.Sequential(
            CONV[dims](2 * detail, detail, 3, padding=1, bias=False), BATCH_NORM[dims](detail), nn.GELU()
        )
        self.predict = CONV[dims](detail, outputs, 1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = self.laterals[-1](features[-1])
        x_BCS = x_BCS + self.refines[-1](x_BCS)
        for level in range(len(features) - 2, -1, -1):
            fine_BCS = self.laterals[level](features[level])
            x_BCS = fine_BCS + resize(x_BCS, fine_BCS.shape[2:])
            x_BCS = x_BCS + self.refines[level](x_BCS)
        x_BCS = resize(self.squeeze(x_BCS), image_BCS.shape[2:])
        return self.predict(self.fuse(torch.cat([x_BCS, self.image(image_BCS)], dim=1)))
