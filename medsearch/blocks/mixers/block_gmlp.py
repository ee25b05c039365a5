"""Block gMLP: inside every block of neighbouring positions, a learned linear map over positions gates the channels.

Source: the spatial gating unit of gMLP (Liu et al. 2021, arXiv:2105.08050, section 2.1) in non-overlapping blocks, as
in the multi-axis gated MLP of MAXIM (Tu et al. 2022, arXiv:2201.02973) and, in 3D, FullMLP (Meng et al. 2023,
arXiv:2311.16707): (u, v) = GELU(W1 LN(x)), out = W2 (u * (v' + 1)), where v' is a linear map of LN(v) over the
positions of one block.  What differs: a size that is no multiple of the block is padded behind LN(v), so padding adds
nothing.
Shapes: B batch, C channels, S spatial axes, H hidden channels, T positions of a block, M = B * blocks * H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.nd import (
    blocks_of_rows,
    crop_to,
    hidden_width,
    pad_to_multiple,
    rows_of_blocks,
    to_first,
    to_last,
    whole_number,
)


@MIXERS.add("block_gmlp")
class BlockGmlp(nn.Module):
    """Mix the positions of each block of ``block`` per axis; a fresh layer passes u through almost unchanged.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        block: block edge in positions; the weights are block^dims squared, whatever the map (a smaller map is padded).
        ratio: hidden width H as a multiple of C.
        hidden: hidden width itself; overrides ``ratio`` (a pruned layer says it this way).

    Cost: 3 * H * C multiply-adds per position, plus block^dims * H per position of the padded map.
    """

    FAMILY = "mlp"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, block: int = 8, ratio: float = 1.0, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden_width("block_gmlp", dim, ratio, hidden)
        self.block = (whole_number("block_gmlp", "block", block, least=2),) * dims
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * hidden)
        self.act = nn.GELU()
        self.gate_norm = nn.LayerNorm(hidden)
        self.mix_TT = nn.Parameter(torch.randn(block**dims, block**dims) * 1e-3)
        self.bias_T = nn.Parameter(torch.zeros(block**dims))
        self.project = nn.Linear(hidden, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        u_BSH, v_BSH = self.act(self.expand(self.norm(to_last(x_BCS)))).chunk(2, dim=-1)
        v_BSH = pad_to_multiple(self.gate_norm(v_BSH), self.block)
        mixed_TM = torch.addmm(self.bias_T[:, None], self.mix_TT, rows_of_blocks(v_BSH, self.block))
        mixed_BSH = blocks_of_rows(mixed_TM, self.block, v_BSH.shape[1:-1], v_BSH.shape[-1])
        return to_first(self.project(u_BSH * (crop_to(mixed_BSH, u_BSH.shape[1:-1]) + 1)))

    def groups(self) -> dict[str, Group]:
        """The hidden channels, each with its gate; the norm of the gates sees the fewer of them."""
        made = (Axis("expand", repeats=2), Axis("gate_norm"))
        return {"hidden": Group(made, Axis("project.weight", 1))}
