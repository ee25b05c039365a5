"""The hierarchical backbone: standardise, stem, stages of residual blocks, head.  2D and 3D are the same code.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each image channel, so that raw intensities go in.

    Args:
        channels: image channels.
        dims: spatial axes, 2 or 3.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, *, dims: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, *(1,) * dims))
        self.register_buffer("std", torch.ones(channels, *(1,) * dims))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return (x_BCS - self.mean) / self.std

    def restore(self, x_BCS: Tensor) -> Tensor:
        """Back to raw intensities."""
        return x_BCS * self.std + self.mean


class Residual(nn.Module):
    """x + body(x), the branch scaled per channel where ``layer_scale`` is set.

    Source: layer scale as in CaiT (Touvron et al. 2021, arXiv:2103.17239, eq. 4).

    Args:
        body: what is added; keeps the shape.
        dim: channels C.
        dims: spatial axes, 2 or 3.
        layer_scale: initial value of the learned scale, or None for no scale.
    """

    def __init__(self, body: nn.Module, dim: int, *, dims: int, layer_scale: float | None = None) -> None:
        super().__init__()
        self.body = body
        self.scale = None if layer_scale is None else nn.Parameter(torch.full((dim, *(1,) * dims), layer_scale))

    def forward(self, x_BCS: Tensor) -> Tensor:
        branch_BCS = self.body(x_BCS)
        return x_BCS + branch_BCS if self.scale is None else x_BCS + self.scale * branch_BCS


class Network(nn.Module):
    """Raw image intensities (B, channels, *S) to logits: (B, outputs) for classes, (B, outputs, *S) for masks.

    Args:
        standardize: brings the image to mean 0 and deviation 1.
        stem: image to first feature map.
        stages: one module per resolution, fine to coarse.
        head: list of stage features and the standardised image to the output.
    """

    def __init__(self, *, standardize: Standardize, stem: nn.Module, stages: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.standardize = standardize
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head

    def features(self, image_BCS: Tensor) -> list[Tensor]:
        """The output of every stage, fine to coarse, for a standardised image."""
        x_BCS = self.stem(image_BCS)
        found = []
        for stage in self.stages:
            x_BCS = stage(x_BCS)
            found.append(x_BCS)
        return found

    def forward(self, image_BCS: Tensor) -> Tensor:
        image_BCS = self.standardize(image_BCS)
        return self.head(self.features(image_BCS), image_BCS)


class Denoiser(Network):
    """A network whose head predicts what to add to the image; the result is in raw intensities again."""

    def forward(self, image_BCS: Tensor) -> Tensor:
        image_BCS = self.standardize(image_BCS)
        return self.standardize.restore(image_BCS + self.head(self.features(image_BCS), image_BCS))
