"""The steps decoders are made of: resizing to a given size, going up one level, convolution with norm and activation.

Levels need not be a factor of two apart: the size to reach is always that of the finer map itself.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks.knobs import one_of
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise

_LINEAR = {2: "bilinear", 3: "trilinear"}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


def resize(x_BCS: Tensor, size: tuple[int, ...], *, corners: bool = False) -> Tensor:
    """Interpolate (B, C, *S) linearly to spatial ``size``; ``corners`` keeps the outermost positions in place."""
    if tuple(x_BCS.shape[2:]) == tuple(size):
        return x_BCS
    return F.interpolate(x_BCS, size=tuple(size), mode=_LINEAR[len(size)], align_corners=corners)


def fit(x_BCS: Tensor, size: tuple[int, ...]) -> Tensor:
    """Bring a doubled map to ``size``: cut the position that an odd axis has too many, else interpolate."""
    spare = [seen - wanted for seen, wanted in zip(x_BCS.shape[2:], size, strict=True)]
    if not all(0 <= positions <= 1 for positions in spare):
        return resize(x_BCS, size)
    for axis, positions in enumerate(spare, start=2):
        if positions:
            x_BCS = x_BCS.narrow(axis, 0, x_BCS.shape[axis] - 1)
    return x_BCS


class Up(nn.Module):
    """A coarse map to ``out`` channels at the size of a finer one.

    Args:
        part: the head's name, for messages.
        dim: channels of the coarse map.
        out: channels afterwards.
        dims: spatial axes, 2 or 3.
        up: ``"resize"``, a 1^D convolution and then interpolation (the two commute, and this is the cheap order), or
            ``"transpose"``, a transposed 2^D convolution of stride 2, see :func:`fit` for what follows.
    """

    def __init__(self, part: str, dim: int, out: int, *, dims: int, up: str) -> None:
        super().__init__()
        plain = one_of(part, "up", up, ("resize", "transpose")) == "resize"
        self.conv = CONV[dims](dim, out, 1) if plain else _TRANSPOSED[dims](dim, out, 2, stride=2)

    def forward(self, x_BCS: Tensor, size: tuple[int, ...]) -> Tensor:
        return fit(self.conv(x_BCS), size)


class Separable(nn.Module):
    """Depthwise 3^D and 1^D convolution, BatchNorm, GELU; ``out`` channels, by default those that go in."""

    def __init__(self, dim: int, *, dims: int, out: int | None = None) -> None:
        super().__init__()
        out = dim if out is None else out
        self.filters = CONV[dims](dim, dim, 3, padding=1, groups=dim, bias=False)
        self.mix = CONV[dims](dim, out, 1, bias=False)
        self.norm = BATCH_NORM[dims](out)
        self.act = nn.GELU()

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.act(self.norm(self.mix(depthwise(self.filters, x_BCS))))


def conv_norm_relu(dim: int, out: int, kernel: int, *, dims: int, norm: str = "batch") -> nn.Sequential:
    """A convolution that keeps the size, BatchNorm instead of a bias, or a bias (``norm="none"``), ReLU."""
    plain = norm == "none"
    conv = CONV[dims](dim, out, kernel, padding=kernel // 2, bias=plain)
    return nn.Sequential(conv, nn.Identity() if plain else BATCH_NORM[dims](out), nn.ReLU())


def doubled(size: tuple[int, ...], image: tuple[int, ...]) -> tuple[int, ...]:
    """Twice ``size`` along every axis, but no more than the image has."""
    return tuple(min(2 * length, whole) for length, whole in zip(size, image, strict=True))
