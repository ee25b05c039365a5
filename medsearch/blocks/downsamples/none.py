"""No downsampling: the step between two stages of an isotropic network.

Source: ViT (Dosovitskiy et al. 2021, arXiv:2010.11929), whose map keeps one size from first to last block.  What
differs: where the width changes, a 1 x 1 convolution changes it.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.nd import CONV


@DOWNSAMPLES.add("none")
class SameSize(nn.Module):
    """Pass the map on, in the width of the next stage.

    Args:
        in_dim: channels of the stage before.
        dim: channels of the stage behind.
        dims: spatial axes, 2 or 3.

    Cost: in_dim * dim multiply-adds per position where the two differ, else none.
    """

    def __init__(self, in_dim: int, dim: int, *, dims: int) -> None:
        super().__init__()
        self.project = nn.Identity() if in_dim == dim else CONV[dims](in_dim, dim, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.project(x_BCS)

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return size
