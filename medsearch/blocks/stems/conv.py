"""A stem of 3^D convolutions: overlapping, with a BatchNorm that folds at export.

Source: the convolutional stem of "Early convolutions help transformers see better" (Xiao et al. 2021,
arXiv:2106.14881) and of MedFormer (arXiv:2507.02488): one stride-2 convolution per halving, the width doubling with
each.  What differs: stride 1 keeps the full resolution, and axes may be halved unequally often.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.knobs import one_of, per_axis, yes_or_no
from medsearch.blocks.nd import BATCH_NORM
from medsearch.blocks.strides import map_norm, overlap_conv, shrunk

_ACTS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


@STEMS.add("conv")
class ConvStem(nn.Module):
    """Image to first feature map with 3^D convolutions and a norm after each, an activation between them.

    Args:
        in_channels: channels of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        stride: image positions per position of the map, a power of two: a number, or one per axis as in "1x2x2".  An
            axis is halved by the first convolutions until it is done; before the last of n, widths are dim / 2^n ...
        act: between convolutions, ``"gelu"`` or ``"relu"``.
        norm: after every convolution, ``"batch"`` or ``"none"``.
        bias: convolutions with biases, as in MedFormer, TCSAFormer and L2ViT, which a BatchNorm makes redundant.
        last: what follows all, ``"none"``, or ``"layer"`` for one more LayerNorm (L2ViT).

    Cost: 3^dims * widths before and after each convolution multiply-adds per position that it gives.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        *,
        dims: int,
        stride: int | str = 2,
        act: str = "gelu",
        norm: str = "batch",
        bias: bool = False,
        last: str = "none",
    ) -> None:
        super().__init__()
        halvings = _halvings(stride, dims)
        count = max(1, *halvings)
        self.steps = [tuple(2 if done < left else 1 for left in halvings) for done in range(count)]
        self.widths = [in_channels, *(max(1, dim // 2**left) for left in range(count - 1, -1, -1))]
        self.normed = one_of("conv stem", "norm", norm, ("batch", "none")) == "batch"
        self.normed_last = one_of("conv stem", "last", last, ("none", "layer")) == "layer"
        one_of("conv stem", "act", act, tuple(_ACTS))
        yes_or_no("conv stem", "bias", bias)
        layers: list[nn.Module] = []
        for source, target, step in zip(self.widths, self.widths[1:], self.steps, strict=False):
            layers += [_ACTS[act]()] if layers else []
            layers.append(overlap_conv(source, target, (3,) * dims, step, bias=bias))
            layers += [BATCH_NORM[dims](target)] if self.normed else []
        layers += [map_norm("layer", dim, dims)] if self.normed_last else []
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.layers(x_BCS)

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        for step in self.steps:
            size = shrunk(size, step)
        return size


def _halvings(stride: int | str, dims: int) -> list[int]:
    """How often every axis is halved."""
    steps = per_axis("conv stem", "stride", stride, dims)
    if any(step & (step - 1) for step in steps):
        near = [2 ** round(math.log2(step)) for step in steps]
        fits = near[0] if isinstance(stride, int) else "x".join(map(str, near))
        raise ValueError(f"conv stem: stride must be a power of two on every axis, got {stride!r}; try {fits!r}")
    return [step.bit_length() - 1 for step in steps]
