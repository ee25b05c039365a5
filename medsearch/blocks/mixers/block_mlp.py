"""Block MLP: a two-layer perceptron over the positions of every block, the same for all channels.

Source: the token-mixing MLP of MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601, eq. 1), W2 GELU(W1 LN(x)) over
positions, there over all of a fixed map: with one block as large as the map the two are the same.  What differs: a size
that is no multiple of the block is padded behind the norm, so padding adds nothing.
Shapes: B batch, C channels, S spatial axes, T positions of a block, M = B * blocks * C.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width
from medsearch.blocks.nd import blocks_of_rows, crop_to, pad_to_multiple, rows_of_blocks, to_first, to_last
from medsearch.blocks.positions_mlp import set_edges


@MIXERS.add("block_mlp")
class BlockMlp(nn.Module):
    """Mix the positions of each block of ``block`` per axis, every channel alike: T -> hidden -> GELU -> T.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        block: block edge in positions, or one per axis like ``"2x6x6"`` (a smaller map is padded).
        ratio: hidden units as a multiple of the T positions of a block.
        hidden: hidden units themselves; overrides ``ratio`` (a pruned layer says it this way).

    Cost: 2 * hidden * C multiply-adds per position of the padded map.
    """

    FAMILY = "mlp"
    NORM = "layer"

    def __init__(
        self, dim: int, *, dims: int, block: int | str = 4, ratio: float = 2.0, hidden: int | None = None
    ) -> None:
        super().__init__()
        self.edges = set_edges("block_mlp", "block", block, dims)
        tokens = prod(self.edges)
        hidden = hidden_width("block_mlp", tokens, ratio, hidden)
        self.norm = nn.LayerNorm(dim)
        self.expand = _PositionsLinear(tokens, hidden, 1)
        self.act = nn.GELU()
        self.project = _PositionsLinear(hidden, tokens, 1)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BSC = pad_to_multiple(self.norm(to_last(x_BCS)), self.edges)
        rows_1TM = rows_of_blocks(x_BSC, self.edges).unsqueeze(0)
        mixed_TM = self.project(self.act(self.expand(rows_1TM))).squeeze(0)
        y_BSC = blocks_of_rows(mixed_TM, self.edges, tuple(x_BSC.shape[1:-1]), x_BSC.shape[-1])
        return to_first(crop_to(y_BSC, x_BCS.shape[2:]))

    def groups(self) -> dict[str, Group]:
        """The hidden units, which no other layer sees."""
        return {"hidden": Group((Axis("expand"),), Axis("project.weight", 1))}


class _PositionsLinear(nn.Conv1d):
    """A convolution of edge 1 over (1, T, M); in mixed precision on the CPU one matrix product, which is faster."""

    def forward(self, x_1TM: Tensor) -> Tensor:
        if x_1TM.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x_1TM)
        assert self.bias is not None
        return torch.addmm(self.bias.unsqueeze(1), self.weight.squeeze(2), x_1TM.squeeze(0)).unsqueeze(0)
