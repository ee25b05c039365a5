"""Decoder that adds the stage's features and gates the sum along channels, then along positions.

Source: SCCSA of BRAU-Net++ (Lan et al. 2024, arXiv:2401.00722, section on skip connections), as TCSAFormer
(arXiv:2508.04058) uses it: x = skip + BN(W up(x)); x = x * MLP(x), channel by channel at every position and without a
sigmoid; x = x * sigmoid(BN(conv(ReLU(BN(conv(x)))))) with two dense 7^D convolutions.  What differs: a 1^D convolution
comes before the interpolation, with which it commutes, also the last one that predicts; the interpolation goes to the
actual size of the finer map.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import resize
from medsearch.blocks.knobs import odd_kernel, whole_number
from medsearch.blocks.nd import BATCH_NORM, CONV


class Gate(nn.Module):
    """A map times what a small network says of each channel, then times what convolutions say of each position."""

    def __init__(self, part: str, dim: int, *, dims: int, rate: int, kernel: int) -> None:
        super().__init__()
        conv, pad = CONV[dims], odd_kernel(part, kernel) // 2
        hidden = max(1, dim // whole_number(part, "rate", rate))
        self.channel = nn.Sequential(conv(dim, hidden, 1), nn.ReLU(), conv(hidden, dim, 1))
        self.spatial = nn.Sequential(
            conv(dim, hidden, kernel, padding=pad),
            BATCH_NORM[dims](hidden),
            nn.ReLU(),
            conv(hidden, dim, kernel, padding=pad),
            BATCH_NORM[dims](dim),
        )

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BCS = x_BCS * self.channel(x_BCS)
        return x_BCS * self.spatial(x_BCS).sigmoid()


@HEADS.add("add_gate")
class AddGateHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        rate: by how much the gates narrow the channels.
        kernel: edge of the dense convolutions of the spatial gate; the sources have 7, which is dear in 3D.

    Cost: 2 * C^2 / rate * (1 + kernel^dims) multiply-adds per position of every level but the coarsest.
    """

    TASKS = ("segmentation", "denoising")
    NAME = "add_gate"

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, rate: int = 4, kernel: int = 3) -> None:
        super().__init__()
        whole_number(self.NAME, "rate", rate)
        odd_kernel(self.NAME, kernel)
        pairs = list(pairwise(widths))
        self.reduces = nn.ModuleList(CONV[dims](coarse, fine, 1) for fine, coarse in pairs)
        self.norms = nn.ModuleList(BATCH_NORM[dims](fine) for fine, _ in pairs)
        self.gates = nn.ModuleList(Gate(self.NAME, fine, dims=dims, rate=rate, kernel=kernel) for fine, _ in pairs)
        self.predict = CONV[dims](widths[0], outputs, 1, bias=False)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = features[-1]
        for level in range(len(features) - 2, -1, -1):
            x_BCS = self.raised(level, x_BCS, features[level])
        return resize(self.predict(x_BCS), image_BCS.shape[2:], corners=True)

    def raised(self, level: int, x_BCS: Tensor, skip_BCS: Tensor) -> Tensor:
        """The decoder's map one level up: joined with the stage's features and gated."""
        up_BCS = resize(self.reduces[level](x_BCS), skip_BCS.shape[2:], corners=True)
        return self.gates[level](skip_BCS + self.norms[level](up_BCS))
