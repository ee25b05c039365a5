"""U-Net decoder: from level to level upwards, each time joined with the stage's features and convolved twice.

Source: U-Net (Ronneberger et al. 2015, arXiv:1505.04597, section 2); with ``norm="instance"`` and
``up="transpose"`` the decoder of nnU-Net (Isensee et al. 2018, arXiv:1809.10486, section 2.1).  What differs: the size
of a level is reached by interpolation where it is not twice the one below; the prediction is made at the finest stage
and interpolated to the image.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Up, resize
from medsearch.blocks.knobs import one_of
from medsearch.blocks.nd import BATCH_NORM, CONV


class InstanceNorm(nn.GroupNorm):
    """Every channel of every image to mean 0 and variance 1, with a learned scale and shift.

    A map of one position, which torch refuses, is its own mean: what remains is the shift.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        if math.prod(x_BCS.shape[2:]) > 1:
            return super().forward(x_BCS)
        shape = (1, -1, *(1,) * (x_BCS.ndim - 2))
        return (x_BCS - x_BCS) * self.weight.reshape(shape) + self.bias.reshape(shape)


def conv_norm_act(dim: int, out: int, *, dims: int, norm: str) -> list[nn.Module]:
    """A 3^D convolution, then BatchNorm and ReLU, or InstanceNorm and leaky ReLU."""
    conv = CONV[dims](dim, out, 3, padding=1, bias=False)
    return [conv, BATCH_NORM[dims](out), nn.ReLU()] if norm == "batch" else [conv, InstanceNorm(out), nn.LeakyReLU()]


@HEADS.add("unet")
class UNetHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        ratio: channels of a level of the decoder as a multiple of the stage's.
        up: how a level is reached from below: ``"resize"`` after a 1^D convolution, or ``"transpose"``d convolution.
        norm: ``"batch"`` with ReLU, or ``"instance"`` with leaky ReLU, which does not depend on the batch.

    Cost, with D = round(ratio * C) and D' that of the level below: 3^dims * (C + 2 * D) * D multiply-adds per position
    of a level, D' * D per position below (times 2^dims if transposed), D * outputs per position of the finest.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        dims: int,
        outputs: int,
        ratio: float = 1.0,
        up: str = "resize",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < math.inf:
            raise ValueError(f"unet: ratio must be a number above 0, got {ratio!r}; try 1.0")
        one_of("unet", "norm", norm, ("batch", "instance"))
        dim_of = [max(1, round(ratio * width)) for width in widths[:-1]] + [widths[-1]]
        levels = range(len(widths) - 1)
        self.ups = nn.ModuleList(Up("unet", dim_of[i + 1], dim_of[i], dims=dims, up=up) for i in levels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *conv_norm_act(widths[i] + dim_of[i], dim_of[i], dims=dims, norm=norm),
                *conv_norm_act(dim_of[i], dim_of[i], dims=dims, norm=norm),
            )
            for i in levels
        )
        self.predict = CONV[dims](dim_of[0], outputs, 1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = features[-1]
        for level in range(len(features) - 2, -1, -1):
            skip_BCS = features[level]
            x_BCS = torch.cat([skip_BCS, self.ups[level](x_BCS, skip_BCS.shape[2:])], dim=1)
            x_BCS = self.blocks[level](x_BCS)
        return resize(self.predict(x_BCS), image_BCS.shape[2:])
