"""The hierarchical backbone: standardise, stem, stages of residual blocks, head.  2D and 3D are the same code.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from medsearch.backbones.features import FeatureInfo


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


ROLES = ("position", "mixer", "local", "channel")
"""What the parts of a block are there for, in the order of the data."""


def laid_out(filled: Collection[str], *, joint: bool) -> list[tuple[str, ...]]:
    """The residual branches of a block that has parts in the ``filled`` roles, each as the roles it runs through."""
    roles = [role for role in ROLES if role in filled]
    if not joint:
        return [(role,) for role in roles]
    together = tuple(role for role in roles if role != "position")
    return [*((role,) for role in roles if role == "position"), together]


class ResidualBlock(nn.Module):
    """Residual branches around the parts of a block, one after another; what a block has not is None.

    A branch is x + part(x), or x + scale * part(x) with a learned scale per channel that stands beside the part:
    ``mixer_scale``, ``channel_scale``; of a joint branch ``joint_scale``.

    Source: layer scale as in CaiT (Touvron et al. 2021, arXiv:2103.17239, eq. 4).

    Args:
        dim: channels C.
        dims: spatial axes, 2 or 3.
        position: the position encoding, a branch of its own in any case; like all parts it keeps the shape.
        mixer: mixes positions.
        local: mixes positions a second time.
        channel: mixes channels.
        joint: one branch runs through mixer, local mixer and channel mixer, instead of one through each.
        layer_scale: initial value of the scales, or None for no scales.
    """

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        position: nn.Module | None = None,
        mixer: nn.Module | None = None,
        local: nn.Module | None = None,
        channel: nn.Module | None = None,
        joint: bool = False,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.position, self.mixer, self.local, self.channel = position, mixer, local, channel
        self.dim, self.dims, self.joint = dim, dims, joint
        shape = (dim, *(1,) * dims)
        self.mixer_scale = None if joint or mixer is None else _scale(shape, layer_scale)
        self.channel_scale = None if joint or channel is None else _scale(shape, layer_scale)
        self.joint_scale = _scale(shape, layer_scale) if joint else None

    def forward(self, x_BCS: Tensor) -> Tensor:
        if self.position is not None:
            x_BCS = x_BCS + self.position(x_BCS)
        if self.joint:
            return x_BCS + _scaled(self._through(x_BCS), self.joint_scale)
        if self.mixer is not None:
            x_BCS = x_BCS + _scaled(self.mixer(x_BCS), self.mixer_scale)
        if self.local is not None:
            x_BCS = x_BCS + self.local(x_BCS)
        if self.channel is not None:
            x_BCS = x_BCS + _scaled(self.channel(x_BCS), self.channel_scale)
        return x_BCS

    def _through(self, x_BCS: Tensor) -> Tensor:
        """What the parts of a joint branch make of its input, one after another."""
        for part in (self.mixer, self.local, self.channel):
            if part is not None:
                x_BCS = part(x_BCS)
        return x_BCS


def _scale(shape: tuple[int, ...], value: float | None) -> nn.Parameter | None:
    return None if value is None else nn.Parameter(torch.full(shape, value))


def _scaled(x_BCS: Tensor, scale_CS: Tensor | None) -> Tensor:
    return x_BCS if scale_CS is None else scale_CS * x_BCS


class Stage(nn.Module):
    """Blocks at one resolution, behind the downsampling that leads there, if any.

    Args:
        dim: channels C of what comes out.
        down: from the map of the stage before; None for the first stage, which the stem leads to.
        blocks: modules that keep the shape.
    """

    def __init__(self, dim: int, *, down: nn.Module | None = None, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.dim = dim
        self.down = down
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x_BCS: Tensor) -> Tensor:
        if self.down is not None:
            x_BCS = self.down(x_BCS)
        for block in self.blocks:
            x_BCS = block(x_BCS)
        return x_BCS


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

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels and strides of the maps that :meth:`features` gives."""
        return FeatureInfo.read(self.stem, self.stages, dims=self.standardize.mean.ndim - 1)

    def features(self, image_BCS: Tensor) -> list[Tensor]:
        """The output of every stage, fine to coarse, for the same raw intensities as the whole network takes."""
        return self._features(self.standardize(image_BCS))

    def _features(self, x_BCS: Tensor) -> list[Tensor]:
        """The output of every stage for a standardised image."""
        x_BCS = self.stem(x_BCS)
        found = []
        for stage in self.stages:
            x_BCS = stage(x_BCS)
            found.append(x_BCS)
        return found

    def forward(self, image_BCS: Tensor) -> Tensor:
        image_BCS = self.standardize(image_BCS)
        return self.head(self._features(image_BCS), image_BCS)


class Denoiser(Network):
    """A network whose head predicts what to add to the image; the result is in raw intensities again."""

    def forward(self, image_BCS: Tensor) -> Tensor:
        image_BCS = self.standardize(image_BCS)
        return self.standardize.restore(image_BCS + self.head(self._features(image_BCS), image_BCS))
