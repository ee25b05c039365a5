"""Decoder that weighs the stage's features against those from below by channel, then by position.

Source: the channel-spatial feature fusion of DCAU-Net (arXiv:2603.09530, abstract: skip and upsampled features are
recalibrated by channel, then by spatial attention).  No code is published, so the parts are our choice: squeeze and
excitation (arXiv:1709.01507, eq. 2-4) over the concatenated channels of both sources, which lets it favour one of them;
the spatial gate of CBAM (arXiv:1807.06521, eq. 3), a 7^D convolution of the channels' mean and maximum; a
depthwise-separable convolution that brings the sum of channels down to the stage's.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Separable, Up, resize
from medsearch.blocks.knobs import odd_kernel, whole_number
from medsearch.blocks.nd import CONV


class Fusion(nn.Module):
    """Two maps of ``dim`` channels to one: s * sigmoid(W2 ReLU(W1 mean(s))), t * sigmoid(conv(t)), then mixed."""

    def __init__(self, dim: int, *, dims: int, rate: int, kernel: int) -> None:
        super().__init__()
        both = 2 * dim
        hidden = max(1, both // rate)
        self.channel = nn.Sequential(nn.Linear(both, hidden), nn.ReLU(), nn.Linear(hidden, both), nn.Sigmoid())
        self.spatial = CONV[dims](2, 1, kernel, padding=kernel // 2)
        self.mix = Separable(both, dims=dims, out=dim)

    def forward(self, skip_BCS: Tensor, up_BCS: Tensor) -> Tensor:
        x_BCS = torch.cat([skip_BCS, up_BCS], dim=1)
        weight_BC = self.channel(x_BCS.flatten(2).mean(2))
        x_BCS = x_BCS * weight_BC.reshape(*weight_BC.shape, *(1,) * (x_BCS.ndim - 2))
        seen_B2S = torch.cat([x_BCS.mean(1, keepdim=True), x_BCS.amax(1, keepdim=True)], dim=1)
        return self.mix(x_BCS * self.spatial(seen_B2S).sigmoid())


@HEADS.add("csff")
class CSFFHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        rate: by how much the channel gate narrows the channels of both sources.
        kernel: edge of the spatial gate's convolution.
        up: how a level is reached from below: ``"resize"`` after a 1^D convolution, or ``"transpose"``d convolution.

    Cost: 2 * C^2 + 2 * 3^dims * C + 2 * kernel^dims multiply-adds per position of every level but the coarsest, and
    C * C' per position below (times 2^dims if transposed).
    """

    TASKS = ("segmentation", "denoising")

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        dims: int,
        outputs: int,
        rate: int = 4,
        kernel: int = 7,
        up: str = "resize",
    ) -> None:
        super().__init__()
        whole_number("csff", "rate", rate)
        odd_kernel("csff", kernel)
        self.ups = nn.ModuleList(Up("csff", coarse, fine, dims=dims, up=up) for fine, coarse in pairwise(widths))
        self.fusions = nn.ModuleList(Fusion(fine, dims=dims, rate=rate, kernel=kernel) for fine in widths[:-1])
        self.predict = CONV[dims](widths[0], outputs, 1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = features[-1]
        for level in range(len(features) - 2, -1, -1):
            skip_BCS = features[level]
            x_BCS = self.fusions[level](skip_BCS, self.ups[level](x_BCS, skip_BCS.shape[2:]))
        return resize(self.predict(x_BCS), image_BCS.shape[2:])
