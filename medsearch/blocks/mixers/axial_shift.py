"""Axial shift: groups of channels moved by different distances along each axis, then mixed position by position.

Source: AS-MLP (Lian et al. 2022, arXiv:2107.08391, section 3.2): y = GELU(GN(W0 GN(x))), out = W2 GN(sum over the axes
of GELU(W1 shift(y))), where shift moves the g-th of s equal groups of channels by g - s // 2 positions along the axis,
zeros coming in.  GN is a norm over all channels and positions of an image.  What differs: any number of axes.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import whole_number
from medsearch.blocks.nd import CONV


@MIXERS.add("axial_shift")
class AxialShift(nn.Module):
    """Bring in what lies up to ``shift // 2`` positions away along every axis, without a weight per position.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        shift: number of groups and so of distances; odd, so that they are as many to either side.

    Cost: (dims + 2) * C * C multiply-adds per position.
    """

    FAMILY = "mlp"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, shift: int = 5) -> None:
        super().__init__()
        if whole_number("axial_shift", "shift", shift, least=3) % 2 == 0:
            raise ValueError(f"axial_shift: shift must be odd, got {shift!r}; try {shift + 1}")
        group = ceil(dim / shift)
        self.shift, self.widths = shift, [min(group, dim - start) for start in range(0, dim, group)]
        self.norm = nn.GroupNorm(1, dim)
        self.expand = CONV[dims](dim, dim, 1)
        self.expand_norm = nn.GroupNorm(1, dim)
        self.act = nn.GELU()
        self.axes = nn.ModuleList(CONV[dims](dim, dim, 1) for _ in range(dims))
        self.project_norm = nn.GroupNorm(1, dim)
        self.project = CONV[dims](dim, dim, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        y_BCS = self.act(self.expand_norm(self.expand(self.norm(x_BCS))))
        mixed = [self.act(mix(self._shifted(y_BCS, axis))) for axis, mix in enumerate(self.axes, start=2)]
        return self.project(self.project_norm(sum(mixed[1:], mixed[0])))

    def _shifted(self, x_BCS: Tensor, axis: int) -> Tensor:
        """The channels of group g moved by g - shift // 2 positions towards the end of ``axis``."""
        far, length = self.shift // 2, x_BCS.shape[axis]
        padded = F.pad(x_BCS, [0, 0] * (x_BCS.ndim - 1 - axis) + [far, far])
        groups = enumerate(padded.split(self.widths, dim=1))
        return torch.cat([group.narrow(axis, 2 * far - g, length) for g, group in groups], dim=1)
