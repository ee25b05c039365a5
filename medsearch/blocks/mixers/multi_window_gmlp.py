"""Multi-window gMLP: block gMLPs of several block edges side by side, weighed per channel by what the image needs.

Source: the multi-window MLP layer of CorrMLP (Meng et al. 2024, arXiv:2406.00123, section 3.2): with z = LN(x) and
y_i = z + gMLP_i(z), out = W sum_i a_i y_i, where for each channel (a_i) = softmax_i(MLP(mean of sum_i y_i over the
map)).  What differs: as the weights sum to 1, z is added once; a size that is no multiple of a block is padded inside
the gate, where it adds nothing, instead of before its first norm; the mean is taken in float32 at least.
Shapes: B batch, C channels, S spatial axes, W windows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import hidden_width
from medsearch.blocks.mixers.block_gmlp import BlockGmlp
from medsearch.blocks.nd import to_first, to_last
from medsearch.blocks.positions_mlp import set_edges


@MIXERS.add("multi_window_gmlp")
class MultiWindowGmlp(nn.Module):
    """Mix the positions of blocks of several sizes and let each channel of each image choose among them.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        windows: block edges in positions, like ``"3-5-7"``, or per axis, like ``"1x3x3-1x5x5"``.
        ratio: hidden width H of every gMLP as a multiple of C.

    Cost: (3 * W * H + C) * C multiply-adds per position, plus edge^dims * H per position of each padded map, plus
    (1 + W) * C * C / 4 per image.
    """

    FAMILY = "mlp"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, windows: str = "3-5-7", ratio: float = 1.0) -> None:
        super().__init__()
        hidden = hidden_width("multi_window_gmlp", dim, ratio, None)
        self.norm = nn.LayerNorm(dim)
        self.windows = nn.ModuleList(
            BlockGmlp(dim, dims=dims, block=block, hidden=hidden) for block in _blocks(windows, dims)
        )
        self.squeeze = nn.Linear(dim, max(1, dim // 4))
        self.act = nn.GELU()
        self.choose = nn.Linear(self.squeeze.out_features, dim * len(self.windows))
        self.project = nn.Linear(dim, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        z_BCS = to_first(self.norm(to_last(x_BCS)))
        mixed = [window(z_BCS) for window in self.windows]
        y_BCS = z_BCS
        for share_BC, mixed_BCS in zip(self._shares(z_BCS, mixed), mixed, strict=True):
            y_BCS = torch.addcmul(y_BCS, mixed_BCS, share_BC.reshape(*share_BC.shape, *(1,) * (x_BCS.ndim - 2)))
        return to_first(self.project(to_last(y_BCS)))

    def _shares(self, z_BCS: Tensor, mixed: list[Tensor]) -> tuple[Tensor, ...]:
        """Per window (B, C): the weights of its channels, 1 together."""
        mean_BC = len(mixed) * _mean(z_BCS)
        for mixed_BCS in mixed:
            mean_BC = mean_BC + _mean(mixed_BCS)
        choice_BM = self.choose(self.act(self.squeeze(mean_BC.to(z_BCS.dtype))))
        share_BCW = choice_BM.reshape(-1, z_BCS.shape[1], len(mixed)).softmax(dim=-1)
        return share_BCW.to(mixed[0].dtype).unbind(-1)


def _blocks(windows: str, dims: int) -> list[int | str]:
    """The block of every window, as ``block_gmlp`` takes it."""
    pieces = windows.split("-") if isinstance(windows, str) else []
    blocks = [int(piece) if piece.isdecimal() else piece for piece in pieces]
    try:
        for block in blocks:
            set_edges("multi_window_gmlp", "windows", block, dims)
    except ValueError:
        blocks = []
    if not blocks:
        raise ValueError(f"multi_window_gmlp: windows must be edges of at least 2, got {windows!r}; try '3-5-7'")
    return blocks


def _mean(x_BCS: Tensor) -> Tensor:
    """(B, C): the mean over the map, in float32 at least."""
    return x_BCS.flatten(2).mean(-1, dtype=torch.promote_types(x_BCS.dtype, torch.float32))
