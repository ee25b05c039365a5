"""Networks made by hand, with which a search is compared.  They take raw intensities, as those of a search do.

Shapes: B batch, C channels, S spatial axes, K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsearch.backbones.network import Standardize
from medsearch.blocks.nd import BATCH_NORM, CONV
from medsearch.core.errors import UsageError
from medsearch.data import Dataset
from medsearch.studies.equal_time.plan import HAND_MADE

WIDTHS, DEPTHS = (32, 64, 128, 192), (1, 2, 3, 1)
KERNEL, EXPANSION = 5, 3
BASE, LEVELS = 16, 3
POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
SMALL_IMAGE = 48


def rival(arm: str, data: Dataset, *, seed: int) -> nn.Module:
    """The network called ``arm`` for ``data``, with seeded weights and the mean and deviation of the training images.

    Args:
        arm: ``"convnet"``, ``"unet"`` or ``"resnet18"``.
        data: gives channels, spatial axes, outputs and statistics.
        seed: of the weights.

    Raises:
        UsageError: for a network of another task than that of ``data``.
    """
    dims, task = data.dims, "segmentation" if arm == HAND_MADE["segmentation"] else "classification"
    if data.task != task:
        raise UsageError(f"arm {arm}", f"is for {task}; {data.name} is for {data.task}.", "Leave it out of this entry.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if arm == "convnet":
            body: nn.Module = ConvNet(data.channels, data.outputs, dims=dims)
        elif arm == "unet":
            body = UNet(data.channels, data.outputs, dims=dims)
        else:
            stride = 1 if min(data.size) < SMALL_IMAGE else 2
            body = ResNet18(data.channels, data.outputs, dims=dims, stride=stride)
    standardize = Standardize(data.channels, dims=dims)
    mean, std = data.mean_std()
    standardize.mean.copy_(torch.tensor(mean).reshape(standardize.mean.shape))
    standardize.std.copy_(torch.tensor(std).clamp_min(1e-6).reshape(standardize.std.shape))
    return nn.Sequential(standardize, body)


class ConvNet(nn.Module):
    """Depthwise convolutions and pointwise ones in turns, in four stages; (B, C, *S) to (B, K).

    A block is x + norm(depthwise 5 x 5 (x)), then x + pointwise(gelu(pointwise(norm(x)))) with three times the width
    between the two.  Stages are joined by 3 x 3 convolutions of stride 2, each with its norm; so is the stem.

    Source: our own, of the parts of ConvNeXt (Liu et al. 2022, arXiv:2201.03545) with batch norms.

    Args:
        channels: of the image, C.
        outputs: K.
        dims: spatial axes, 2 or 3.
    """

    def __init__(self, channels: int, outputs: int, *, dims: int = 2) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, width, depth in zip((channels, *WIDTHS), WIDTHS, DEPTHS, strict=False):
            parts += [CONV[dims](before, width, 3, stride=2, padding=1, bias=False), BATCH_NORM[dims](width)]
            parts += [_Depthwise(width, dims=dims) for _ in range(depth)]
        self.stages = nn.Sequential(*parts)
        self.head = nn.Linear(WIDTHS[-1], outputs)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.head(_pooled(self.stages(x_BCS)))


class _Depthwise(nn.Module):
    def __init__(self, width: int, *, dims: int) -> None:
        super().__init__()
        conv, norm = CONV[dims], BATCH_NORM[dims]
        self.filter = conv(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.filter_norm, self.norm = norm(width), norm(width)
        self.widen, self.narrow = conv(width, EXPANSION * width, 1), conv(EXPANSION * width, width, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BCS = x_BCS + self.filter_norm(self.filter(x_BCS))
        return x_BCS + self.narrow(F.gelu(self.widen(self.norm(x_BCS))))


class UNet(nn.Module):
    """A plain U-Net of three resolutions, 16, 32 and 64 channels wide; (B, C, *S) to (B, K, *S).

    Each resolution has two 3 x 3 convolutions with norm and ReLU; between them are max-pooling and nearest upsampling.

    Source: Ronneberger et al. 2015, arXiv:1505.04597; smaller, padded, with norms and without transposed convolutions.

    Args:
        channels: of the image, C.
        outputs: K.
        dims: spatial axes, 2 or 3.
    """

    def __init__(self, channels: int, outputs: int, *, dims: int = 2) -> None:
        super().__init__()
        widths = [BASE * 2**level for level in range(LEVELS)]
        self.pool = POOL[dims](2)
        self.down = nn.ModuleList(
            _twice(before, width, dims=dims) for before, width in zip((channels, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(_twice(3 * width, width, dims=dims) for width in reversed(widths[:-1]))
        self.head = CONV[dims](BASE, outputs, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        left = [self.down[0](x_BCS)]
        for convolutions in list(self.down)[1:]:
            left.append(convolutions(self.pool(left[-1])))
        x_BCS = left.pop()
        for convolutions in self.up:
            beside_BCS = left.pop()
            x_BCS = F.interpolate(x_BCS, size=beside_BCS.shape[2:], mode="nearest")
            x_BCS = convolutions(torch.cat([beside_BCS, x_BCS], 1))
        return self.head(x_BCS)


class ResNet18(nn.Module):
    """ResNet-18 with a 3 x 3 stem and without its pooling, for small images; (B, C, *S) to (B, K).

    Source: He et al. 2016, arXiv:1512.03385, table 1, 18 layers; the stem as for small images.

    Args:
        channels: of the image, C.
        outputs: K.
        dims: spatial axes, 2 or 3.
        stride: of the stem.
    """

    def __init__(self, channels: int, outputs: int, *, dims: int = 2, stride: int = 1) -> None:
        super().__init__()
        widths = (64, 128, 256, 512)
        stem = CONV[dims](channels, widths[0], 3, stride=stride, padding=1, bias=False)
        parts: list[nn.Module] = [stem, BATCH_NORM[dims](widths[0]), nn.ReLU()]
        for before, width in zip((widths[0], *widths), widths, strict=False):
            parts += [_Basic(before, width, stride=1 if before == width else 2, dims=dims)]
            parts += [_Basic(width, width, stride=1, dims=dims)]
        self.stages = nn.Sequential(*parts)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.head(_pooled(self.stages(x_BCS)))


class _Basic(nn.Module):
    def __init__(self, before: int, width: int, *, stride: int, dims: int) -> None:
        super().__init__()
        conv, norm = CONV[dims], BATCH_NORM[dims]
        self.first = conv(before, width, 3, stride=stride, padding=1, bias=False)
        self.second = conv(width, width, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = norm(width), norm(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(conv(before, width, 1, stride=stride, bias=False), norm(width))

    def forward(self, x_BCS: Tensor) -> Tensor:
        inner_BCS = F.relu(self.first_norm(self.first(x_BCS)))
        return F.relu(self.shortcut(x_BCS) + self.second_norm(self.second(inner_BCS)))


def _twice(before: int, width: int, *, dims: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for first in (before, width):
        parts += [CONV[dims](first, width, 3, padding=1, bias=False), BATCH_NORM[dims](width), nn.ReLU()]
    return nn.Sequential(*parts)


def _pooled(x_BCS: Tensor) -> Tensor:
    return x_BCS.flatten(2).mean(2)
