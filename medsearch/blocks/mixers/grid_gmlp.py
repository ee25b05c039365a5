"""Grid gMLP: positions far apart, one per cell of a coarse grid, gate the channels through a learned linear map.

Source: the grid half of the multi-axis gated MLP of MAXIM (Tu et al. 2022, arXiv:2201.02973) and, in 3D, of FullMLP
(Meng et al. 2023, arXiv:2311.16707), with the spatial gating unit of gMLP (Liu et al. 2021, arXiv:2105.08050, section
2.1): (u, v) = GELU(W1 LN(x)), out = W2 (u * (v' + 1)), where v' is a linear map of LN(v) over the positions that have
the same offset in their cell of the grid: global and sparse.  What differs: a size that is no multiple of the grid is
padded behind LN(v), so padding adds nothing.
Shapes: B batch, S spatial axes, H hidden channels, T cells of the grid, M = B * offsets * H.
"""

from __future__ import annotations

from torch import Tensor

from medsearch.blocks import MIXERS
from medsearch.blocks.nd import grid_of_rows, rows_of_grid
from medsearch.blocks.positions_mlp import PositionGmlp, set_edges


@MIXERS.add("grid_gmlp")
class GridGmlp(PositionGmlp):
    """Mix the positions that lie ``size / grid`` apart, over the whole map; a fresh layer passes u almost unchanged.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        grid: cells per axis, or one number for each like ``"2x6x6"``; T cells make T squared weights, whatever the map
            (a smaller map is padded).
        ratio: hidden width H as a multiple of C.
        hidden: hidden width itself; overrides ``ratio`` (a pruned layer says it this way).

    Cost: 3 * H * C multiply-adds per position, plus T * H per position of the padded map.
    """

    def __init__(
        self, dim: int, *, dims: int, grid: int | str = 8, ratio: float = 1.0, hidden: int | None = None
    ) -> None:
        super().__init__("grid_gmlp", dim, set_edges("grid_gmlp", "grid", grid, dims), ratio=ratio, hidden=hidden)

    def _rows(self, v_BSH: Tensor) -> Tensor:
        return rows_of_grid(v_BSH, self.edges)

    def _map(self, rows_TM: Tensor, size: tuple[int, ...], hidden: int) -> Tensor:
        return grid_of_rows(rows_TM, self.edges, size, hidden)
