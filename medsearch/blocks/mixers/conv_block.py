"""Convolutional block: two dense convolutions with a norm each and an activation between, the classical reference.

Source: the basic block of ResNet (He et al. 2016, arXiv:1512.03385, figure 5) with the norms and activation of nnU-Net
(Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): norm(W2 a(norm(W1 x))), a = LeakyReLU of slope 0.01.  What
differs: no bias in front of a norm; ResNet's activation of the sum is a choice.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, odd_kernels
from medsearch.blocks.nd import BATCH_NORM, CONV


class InstanceNorm(nn.Module):
    """Every channel of every image normalised over its positions, then scaled and shifted; of any size, 1 included."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return torch.group_norm(x_BCS, x_BCS.shape[1], self.weight, self.bias)


@MIXERS.add("conv_block")
class ConvBlock(nn.Module):
    """Mix channels and neighbours twice: C -> dense k -> hidden -> dense k -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: window edge in positions, one for all axes or one per axis (``"1x3x3"``); odd.
        hidden: channels between the two convolutions; None for C.
        norm: ``"batch"``, which folds into the convolutions at export, or ``"instance"``, as in nnU-Net.
        after: ``"leaky_relu"`` to activate the sum with the residual stream, as ResNet and nnU-Net do, by the branch
            a(x + f(x)) - x; or ``"none"``.

    Cost: 2 * kernel^dims * C * hidden multiply-adds per position.
    """

    FAMILY = "conv"
    NORM = "batch"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        kernel: int | str = 3,
        hidden: int | None = None,
        norm: str = "batch",
        after: str = "none",
    ) -> None:
        super().__init__()
        part = "conv_block"
        self.kernel = odd_kernels(part, kernel, dims)
        if norm not in ("batch", "instance"):
            raise ValueError(f"{part}: norm must be 'batch' or 'instance', got {norm!r}; try 'batch'")
        if after not in ("none", "leaky_relu"):
            raise ValueError(f"{part}: after must be 'none' or 'leaky_relu', got {after!r}; try 'none'")
        self.dim, self.hidden = dim, hidden_width(part, dim, 1.0, hidden)
        self.acts_after = after == "leaky_relu"
        window: dict[str, Any] = {"kernel_size": self.kernel, "padding": tuple(edge // 2 for edge in self.kernel)}
        normed = BATCH_NORM[dims] if norm == "batch" else InstanceNorm
        self.act = nn.LeakyReLU()
        self.expand, self.expand_norm = CONV[dims](dim, self.hidden, **window, bias=False), normed(self.hidden)
        self.project, self.project_norm = CONV[dims](self.hidden, dim, **window, bias=False), normed(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        y_BCS = self.project_norm(self.project(self.act(self.expand_norm(self.expand(x_BCS)))))
        return self.act(x_BCS + y_BCS) - x_BCS if self.acts_after else y_BCS

    def groups(self) -> dict[str, Group]:
        """The channels between the two convolutions."""
        return {"hidden": Group((Axis("expand"), Axis("expand_norm")), Axis("project.weight", 1))}
