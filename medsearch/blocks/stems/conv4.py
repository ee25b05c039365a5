"""A stem of four 3^D convolutions, the first and the last with a stride, each with BatchNorm and ReLU.

Source: MedViTV2 (Manzari et al. 2025, arXiv:2502.13693) and Next-ViT (Li et al. 2022, arXiv:2207.05501): widths 64,
32, 64, 64, strides 2, 1, 1, 2, no biases.  What differs: where the first stage is wider than the stem, the 1 x 1
convolution with BatchNorm to it, which in the release belongs to the first block, is the stem's last layer.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.knobs import per_axis, whole_number
from medsearch.blocks.nd import BATCH_NORM
from medsearch.blocks.strides import overlap_conv, shrunk


@STEMS.add("conv4")
class FourConvStem(nn.Module):
    """Image to first feature map with four 3^D convolutions that get narrower and wider again.

    Args:
        in_channels: channels of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        stride: image positions per position of the map, 1, 2 or 4: a number, or one per axis as in "1x2x2".
        width: width of the stem, half of it after the second convolution; None is the width of the first stage.

    Cost: per position after the first stride, 3^dims * (in_channels + width) * width multiply-adds; after the second,
    3^dims * width^2, and width * dim where the two differ.
    """

    def __init__(
        self, in_channels: int, dim: int, *, dims: int, stride: int | str = 4, width: int | None = None
    ) -> None:
        super().__init__()
        steps = per_axis("conv4 stem", "stride", stride, dims)
        if any(step not in (1, 2, 4) for step in steps):
            fits = "x".join("124"[min(step, 4) // 2] for step in steps)
            near = fits if isinstance(stride, str) else int(fits[0])
            raise ValueError(f"conv4 stem: stride must be 1, 2 or 4 on every axis, got {stride!r}; try {near!r}")
        width = dim if width is None else whole_number("conv4 stem", "width", width)
        self.first, self.last = tuple(min(step, 2) for step in steps), tuple(max(1, step // 2) for step in steps)
        one = (1,) * dims
        self.convs = [
            (in_channels, width, 3, self.first),
            (width, max(1, width // 2), 3, one),
            (max(1, width // 2), width, 3, one),
            (width, width, 3, self.last),
        ]
        self.convs += [] if width == dim else [(width, dim, 1, one)]
        layers: list[nn.Module] = []
        for source, target, kernel, step in self.convs:
            layers.append(overlap_conv(source, target, (kernel,) * dims, step, bias=False))
            layers += [BATCH_NORM[dims](target), *([nn.ReLU()] if kernel > 1 else [])]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.layers(x_BCS)

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(shrunk(size, self.first), self.last)
