"""A perceptron with two depthwise branches, one for near and one for far neighbours, that exchange halves.

Source: the DBFFN of TCSAFormer (Xia et al. 2025, arXiv:2508.04058), as released: h = BN(W1 BN(x)), 2 C wide; both
a = GELU(DW3(h)) and b = GELU(DWk(h)) are cut in two; BN(G3([a1, b1])) and BN(Gk([a2, b2])) come from grouped
convolutions of two neighbouring channels into one; BN(W2 [., .]).  k is 7, no layer but the norms has a bias.  What
differs: nothing; behind convolutional mixers the LayerNorm in front, which belongs to its block, is left out.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import CHANNELS
from medsearch.blocks.knobs import odd_kernel, one_of
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise
from medsearch.blocks.strides import map_norm

_NEAR = 3


@CHANNELS.add("dbffn")
class DualBranchMlp(nn.Module):
    """Mix channels, and neighbours in two windows: C -> 2 C -> two branches of 2 C -> C each way -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: edge of the larger window; odd; the smaller one is 3.
        norm: ``"layer"``, a LayerNorm before the five BatchNorms, or ``"batch"``, these alone.

    Cost: 4 * C^2 + 4 * C * (3^dims + kernel^dims) multiply-adds per position.
    """

    def __init__(self, dim: int, *, dims: int, kernel: int = 7, norm: str = "layer") -> None:
        super().__init__()
        odd_kernel("dbffn", kernel)
        self.layer_norm = one_of("dbffn", "norm", norm, ("layer", "batch")) == "layer"
        conv, batch_norm = CONV[dims], BATCH_NORM[dims]
        self.norm = nn.Sequential(map_norm("layer" if self.layer_norm else "none", dim, dims), batch_norm(dim))
        self.expand = conv(dim, 2 * dim, 1, bias=False)
        self.expand_norm = batch_norm(2 * dim)
        self.near = conv(2 * dim, 2 * dim, _NEAR, padding=_NEAR // 2, groups=2 * dim, bias=False)
        self.far = conv(2 * dim, 2 * dim, kernel, padding=kernel // 2, groups=2 * dim, bias=False)
        self.near_pair = conv(2 * dim, dim, _NEAR, padding=_NEAR // 2, groups=dim, bias=False)
        self.far_pair = conv(2 * dim, dim, kernel, padding=kernel // 2, groups=dim, bias=False)
        self.near_norm, self.far_norm = batch_norm(dim), batch_norm(dim)
        self.project = conv(2 * dim, dim, 1, bias=False)
        self.project_norm = batch_norm(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        hidden_BCS = self.expand_norm(self.expand(self.norm(x_BCS)))
        near = F.gelu(depthwise(self.near, hidden_BCS)).chunk(2, dim=1)
        far = F.gelu(depthwise(self.far, hidden_BCS)).chunk(2, dim=1)
        near_BCS = self.near_norm(depthwise(self.near_pair, torch.cat([near[0], far[0]], dim=1)))
        far_BCS = self.far_norm(depthwise(self.far_pair, torch.cat([near[1], far[1]], dim=1)))
        return self.project_norm(self.project(torch.cat([near_BCS, far_BCS], dim=1)))
