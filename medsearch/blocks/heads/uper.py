"""UPerNet decoder: the coarsest stage pooled to several grids, a feature pyramid, and all levels joined.

Source: UPerNet (Xiao et al. 2018, arXiv:1807.10221, section 3.1) with the pyramid pooling of PSPNet (arXiv:1612.01105,
section 3.2); MedFormer (arXiv:2507.02488) segments with it, without norms.  What differs: pooling to a grid that does
not divide the map is a product with a matrix per axis, which every exporter writes; what is pooled to one position is
spread out before its norm, which changes nothing but that a batch of one image can be trained on.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import conv_norm_relu, resize
from medsearch.blocks.knobs import one_of, whole_number
from medsearch.blocks.nd import CONV

_GRIDS = (1, 2, 3, 6)


def pooled(x_BCS: Tensor, grid: int) -> Tensor:
    """Means of (B, C, *S) over ``grid`` cells per axis, which overlap where they do not divide the axis."""
    for axis in range(2, x_BCS.ndim):
        length = int(x_BCS.shape[axis])
        rows = []
        for cell in range(grid):
            start, end = cell * length // grid, -(-(cell + 1) * length // grid)
            rows.append([1 / (end - start) if start <= place < end else 0.0 for place in range(length)])
        mean_GL = torch.tensor(rows, dtype=x_BCS.dtype, device=x_BCS.device)
        x_BCS = (x_BCS.movedim(axis, -1) @ mean_GL.T).movedim(-1, axis)
    return x_BCS


class Pool(nn.Module):
    """The means of a map over a grid, mapped to ``out`` channels and enlarged to the map's size again."""

    def __init__(self, dim: int, out: int, grid: int, *, dims: int, norm: str) -> None:
        super().__init__()
        self.grid = grid
        self.step = conv_norm_relu(dim, out, 1, dims=dims, norm=norm)

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = x_BCS.shape[2:]
        conv, norm, act = self.step
        y_BCS = conv(pooled(x_BCS, self.grid))
        return resize(act(norm(resize(y_BCS, size) if self.grid == 1 else y_BCS)), size)


@HEADS.add("uper")
class UPerHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        dim: channels of the decoder; MedFormer has 64 or 128, UPerNet 512.
        norm: ``"batch"`` (UPerNet), or ``"none"``, biases in its place (MedFormer).

    Cost: 3^dims * dim^2 multiply-adds per position of every level but the coarsest, 3^dims * levels * dim^2 more per
    position of the finest, and 3^dims * (C + 4 * dim) * dim per position of the coarsest.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, dim: int = 64, norm: str = "batch") -> None:
        super().__init__()
        whole_number("uper", "dim", dim)
        one_of("uper", "norm", norm, ("batch", "none"))
        *finer, last = widths
        self.pools = nn.ModuleList(Pool(last, dim, grid, dims=dims, norm=norm) for grid in _GRIDS)
        self.bottleneck = conv_norm_relu(last + len(_GRIDS) * dim, dim, 3, dims=dims, norm=norm)
        self.laterals = nn.ModuleList(conv_norm_relu(width, dim, 1, dims=dims, norm=norm) for width in finer)
        self.refines = nn.ModuleList(conv_norm_relu(dim, dim, 3, dims=dims, norm=norm) for _ in finer)
        self.fuse = conv_norm_relu(len(widths) * dim, dim, 3, dims=dims, norm=norm)
        self.predict = CONV[dims](dim, outputs, 1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        last_BCS = features[-1]
        x_BCS = self.bottleneck(torch.cat([last_BCS, *(pool(last_BCS) for pool in self.pools)], dim=1))
        size = features[0].shape[2:]
        found = [resize(x_BCS, size)]
        for level in range(len(features) - 2, -1, -1):
            lateral_BCS = self.laterals[level](features[level])
            x_BCS = lateral_BCS + resize(x_BCS, lateral_BCS.shape[2:])
            found.append(resize(self.refines[level](x_BCS), size))
        x_BCS = self.fuse(torch.cat(found[::-1], dim=1))
        return resize(self.predict(x_BCS), image_BCS.shape[2:])
