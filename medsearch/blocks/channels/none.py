"""No channel mixer: for blocks whose mixer does everything, and as a control.

Source: the multi-axis layers of FullMLP (Meng et al. 2023, arXiv:2311.16707), which have no feed-forward layer beside
them.  What differs: nothing; a network leaves the branch out, and this part says what the branch would add, which is
zero.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import CHANNELS


@CHANNELS.add("none")
class NoChannelMixer(nn.Module):
    """Add nothing to the residual stream.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.

    Cost: none.
    """

    ADDS_NOTHING = True

    def __init__(self, dim: int, *, dims: int) -> None:
        super().__init__()

    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS * 0.0
