"""Multi-axis gMLP: half of the channels looks over the whole map in strides, the other half into its own block.

Source: the multi-axis gated MLP of MAXIM (Tu et al. 2022, arXiv:2201.02973, section 3.2) as FullMLP has it in 3D (Meng
et al. 2023, arXiv:2311.16707): (a, b) = GELU(W1 LN(x)), out = W2 [a + grid gMLP(a), b + block gMLP(b)].  What differs:
a size that is no multiple of grid or block is padded inside the gates, where it adds nothing, instead of before their
first norm.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width
from medsearch.blocks.mixers.block_gmlp import BlockGmlp
from medsearch.blocks.mixers.grid_gmlp import GridGmlp
from medsearch.blocks.nd import to_first, to_last
from medsearch.blocks.positions_mlp import set_edges


@MIXERS.add("multi_axis_gmlp")
class MultiAxisGmlp(nn.Module):
    """Expand C to 2 C, mix one half by a grid gMLP and the other by a block gMLP, and join them to C again.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        block: edge of a block in positions, or one per axis like ``"2x6x6"``.
        grid: cells of the grid per axis, or one number for each.
        ratio: hidden width of both gMLPs as a multiple of C.
        block_hidden: hidden width of the block gMLP itself; overrides ``ratio`` (a pruned layer says it this way).
        grid_hidden: the same for the grid gMLP.

    Cost: (4 * C + 6 * H) * C multiply-adds per position where both hidden widths are H, plus (block^dims + grid^dims) *
    H per position of the padded map.
    """

    FAMILY = "mlp"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        block: int | str = 8,
        grid: int | str = 8,
        ratio: float = 1.0,
        block_hidden: int | None = None,
        grid_hidden: int | None = None,
    ) -> None:
        super().__init__()
        for knob, value in (("block", block), ("grid", grid)):
            set_edges("multi_axis_gmlp", knob, value, dims)
        of_grid = hidden_width("multi_axis_gmlp", dim, ratio, grid_hidden)
        of_block = hidden_width("multi_axis_gmlp", dim, ratio, block_hidden)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.act = nn.GELU()
        self.grid = GridGmlp(dim, dims=dims, grid=grid, hidden=of_grid)
        self.block = BlockGmlp(dim, dims=dims, block=block, hidden=of_block)
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        far_BCS, near_BCS = to_first(self.act(self.expand(self.norm(to_last(x_BCS))))).chunk(2, dim=1)
        mixed_BCS = torch.cat([far_BCS + self.grid(far_BCS), near_BCS + self.block(near_BCS)], dim=1)
        return to_first(self.project(to_last(mixed_BCS)))

    def groups(self) -> dict[str, Group]:
        """The hidden channels of each half, each with its gate."""
        found = {}
        for half in ("grid", "block"):
            made = (Axis(f"{half}.expand", repeats=2), Axis(f"{half}.gate_norm"))
            found[f"{half}_hidden"] = Group(made, Axis(f"{half}.project.weight", 1))
        return found
