"""No mixing at all: the branch adds nothing, and positions meet only where the network shrinks the map.

Source: the identity mapping as a token mixer of the MetaFormer baselines (Yu et al. 2022, arXiv:2210.13452, section
3.1).  What differs: as a residual branch it gives 0, so that x + branch(x) is x; MetaFormer's gives its normed input.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import MIXERS


@MIXERS.add("identity")
class NoMixing(nn.Module):
    """Leave the residual stream as it is: what a mixer is worth shows against this one.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.

    Cost: none.
    """

    FAMILY = "control"
    NORM = "layer"
    ADDS_NOTHING = True
    ON_SETS = ()

    def __init__(self, dim: int, *, dims: int) -> None:
        super().__init__()

    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS * 0.0
