"""Multi-scale fusion decoder: joined features go through dilated branches whose kernels depend on the image.

Source: HBFormer (arXiv:2512.03597, MFF decoder) and its released code.  A level: transposed convolution, concatenation
with the stage's features, a residual pair of convolutions, then three separable convolutions of dilation 1, 4 and 8,
each a mixture of expert kernels weighted by a softmax of the image's mean; the branches are weighted likewise, gated
by efficient channel attention (arXiv:1910.03151, eq. 9), mixed, rectified, normed.  What differs: the 1^D experts are
mixed as matrices before they are applied, which is the same function at the cost of one; every level joins its own
stage's features (the release joins those of the stage above it, interpolated); the prediction is made at the finest
stage and interpolated.

Shapes: B batch, C channels, S spatial axes, N positions, E experts, K branches.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Up, resize
from medsearch.blocks.knobs import whole_number
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise

_DILATIONS = (1, 4, 8)


class ResidualConv(nn.Module):
    """act(norm(W act(norm(conv(x)))) + W' x) with a 3^D convolution and leaky ReLU."""

    def __init__(self, dim: int, out: int, *, dims: int) -> None:
        super().__init__()
        self.conv = CONV[dims](dim, out, 3, padding=1, bias=False)
        self.norm = BATCH_NORM[dims](out)
        self.mix = CONV[dims](out, out, 1, bias=False)
        self.mix_norm = BATCH_NORM[dims](out)
        self.skip = CONV[dims](dim, out, 1, bias=False)
        self.act = nn.LeakyReLU()

    def forward(self, x_BCS: Tensor) -> Tensor:
        y_BCS = self.mix_norm(self.mix(self.act(self.norm(self.conv(x_BCS)))))
        return self.act(y_BCS + self.skip(x_BCS))


class Mixture(nn.Module):
    """A depthwise convolution and a map of channels, each a mixture of experts with the same weights per image."""

    def __init__(self, dim: int, *, dims: int, dilation: int, experts: int) -> None:
        super().__init__()
        self.filters = CONV[dims](dim, dim * experts, 3, padding=dilation, dilation=dilation, groups=dim, bias=False)
        self.mix_EOC = nn.Parameter(torch.empty(experts, dim, dim))
        nn.init.kaiming_uniform_(self.mix_EOC.view(experts * dim, dim), a=5**0.5)
        self.norm = BATCH_NORM[dims](dim)
        self.act = nn.SiLU()

    def forward(self, x_BCS: Tensor, weight_BE: Tensor) -> Tensor:
        batch, dim, *size = x_BCS.shape
        x_BCEN = depthwise(self.filters, x_BCS).reshape(batch, dim, -1, prod(size))
        x_BCN = (x_BCEN * weight_BE[:, None, :, None]).sum(2)
        mix_BOC = (weight_BE @ self.mix_EOC.flatten(1)).reshape(batch, dim, dim)
        return self.act(self.norm((mix_BOC.to(x_BCN.dtype) @ x_BCN).reshape(batch, dim, *size)))


class Branches(nn.Module):
    """Three dilated mixtures of a map, weighted by what its mean says, gated by channel and mixed."""

    def __init__(self, dim: int, *, dims: int, experts: int) -> None:
        super().__init__()
        hidden, branches = max(4, dim // 8), len(_DILATIONS)
        self.branch = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, branches), nn.Softmax(1))
        self.expert = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, experts), nn.Softmax(1))
        self.mixtures = nn.ModuleList(Mixture(dim, dims=dims, dilation=d, experts=experts) for d in _DILATIONS)
        self.gate = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.fuse = CONV[dims](branches * dim, dim, 1, bias=False)
        self.norm = BATCH_NORM[dims](dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        mean_BC, ones = x_BCS.flatten(2).mean(2), (1,) * (x_BCS.ndim - 2)
        branch_BK, expert_BE = self.branch(mean_BC), self.expert(mean_BC)
        found = []
        for index, mixture in enumerate(self.mixtures):
            found.append(mixture(x_BCS, expert_BE) * branch_BK[:, index].reshape(-1, 1, *ones))
        y_BCS = torch.cat(found, dim=1)
        gate_BC = self.gate(y_BCS.flatten(2).mean(2).unsqueeze(1)).squeeze(1).sigmoid()
        return self.norm(self.fuse(y_BCS * gate_BC.reshape(*gate_BC.shape, *ones)))


@HEADS.add("mff")
class MFFHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        experts: kernels that are mixed per convolution.
        up: how a level is reached from below: ``"transpose"``d convolution, or ``"resize"`` after a 1^D convolution.

    Cost: mostly (2 * 3^dims + 9) * C^2 + 3^(dims + 1) * experts * C multiply-adds per position of every level but the
    coarsest, and 3 * experts * C^2 per image to mix the experts.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(
        self, widths: tuple[int, ...], *, dims: int, outputs: int, experts: int = 4, up: str = "transpose"
    ) -> None:
        super().__init__()
        whole_number("mff", "experts", experts)
        self.ups = nn.ModuleList(Up("mff", coarse, fine, dims=dims, up=up) for fine, coarse in pairwise(widths))
        self.joins = nn.ModuleList(ResidualConv(2 * fine, fine, dims=dims) for fine in widths[:-1])
        self.branches = nn.ModuleList(Branches(fine, dims=dims, experts=experts) for fine in widths[:-1])
        self.norms = nn.ModuleList(BATCH_NORM[dims](fine) for fine in widths[:-1])
        self.act = nn.ReLU()
        self.predict = CONV[dims](widths[0], outputs, 1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = features[-1]
        for level in range(len(features) - 2, -1, -1):
            skip_BCS = features[level]
            x_BCS = torch.cat([self.ups[level](x_BCS, skip_BCS.shape[2:]), skip_BCS], dim=1)
            x_BCS = self.norms[level](self.act(self.branches[level](self.joins[level](x_BCS))))
        return resize(self.predict(x_BCS), image_BCS.shape[2:])
