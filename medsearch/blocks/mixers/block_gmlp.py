"""Block gMLP: inside every block of neighbouring positions, a learned linear map over positions gates the channels.

Source: the spatial gating unit of gMLP (Liu et al. 2021, arXiv:2105.08050, section 2.1) in non-overlapping blocks, as
in the multi-axis gated MLP of MAXIM (Tu et al. 2022, arXiv:2201.02973) and, in 3D, FullMLP (Meng et al. 2023,
arXiv:2311.16707): (u, v) = GELU(W1 LN(x)), out = W2 (u * (v' + 1)), where v' is a linear map of LN(v) over the
positions of one block.  With one block as large as the map it is gMLP, whose bias of 1 is the 1 of v' + 1.  What
differs: a size that is no multiple of the block is padded behind LN(v), so padding adds nothing.
Shapes: B batch, S spatial axes, H hidden channels, T positions of a block, M = B * blocks * H.
"""

from __future__ import annotations

from torch import Tensor

from medsearch.blocks import MIXERS
from medsearch.blocks.nd import blocks_of_rows, rows_of_blocks
from medsearch.blocks.positions_mlp import PositionGmlp, set_edges


@MIXERS.add("block_gmlp")
class BlockGmlp(PositionGmlp):
    """Mix the positions of each block of ``block`` per axis; a fresh layer passes u through almost unchanged.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        block: block edge in positions, or one per axis like ``"2x6x6"``; T of a block makes T squared weights, whatever
            the map (a smaller map is padded).
        ratio: hidden width H as a multiple of C.
        hidden: hidden width itself; overrides ``ratio`` (a pruned layer says it this way).

    Cost: 3 * H * C multiply-adds per position, plus T * H per position of the padded map.
    """

    def __init__(
        self, dim: int, *, dims: int, block: int | str = 8, ratio: float = 1.0, hidden: int | None = None
    ) -> None:
        super().__init__("block_gmlp", dim, set_edges("block_gmlp", "block", block, dims), ratio=ratio, hidden=hidden)

    def _rows(self, v_BSH: Tensor) -> Tensor:
        return rows_of_blocks(v_BSH, self.edges)

    def _map(self, rows_TM: Tensor, size: tuple[int, ...], hidden: int) -> Tensor:
        return blocks_of_rows(rows_TM, self.edges, size, hidden)
