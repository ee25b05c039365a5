"""A linear layer with whole blocks of its weights left out, as a gather and one product that any runtime does fast.

Source: the regular blocks of LPViT (Xu et al. 2024, arXiv:2407.02068, section 3.1).  What differs: every block row
keeps equally many blocks, so that the layer is a gather of inputs and one batched product of dense matrices: nothing is
masked and no sparse kernel is needed.
Shapes: B batch, I inputs, O outputs, N positions, R row blocks, K kept inputs of a row block.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

COLUMNS = 16
"""Inputs of one block."""


class BlockLinear(nn.Module):
    """Map the channels of every position, (B, I, *S) to (B, O, *S), each block of outputs from inputs of its own.

    Args:
        in_features: channels I, a multiple of 16.
        out_features: channels O.
        row_block: outputs that share their kept inputs; divides O.
        kept: blocks of 16 inputs that every row block keeps.
        bias: add a learned vector.

    Cost: K * O multiply-adds per position.
    """

    columns: Tensor

    def __init__(self, in_features: int, out_features: int, *, row_block: int, kept: int, bias: bool = True) -> None:
        super().__init__()
        rows, blocks = out_features // row_block, in_features // COLUMNS
        self.weight_ROK = nn.Parameter(torch.empty(rows, row_block, kept * COLUMNS))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        spread_RK = (torch.arange(rows)[:, None] + torch.arange(kept)) % blocks
        self.register_buffer("columns", spread_RK.sort(1).values)
        bound = 1 / math.sqrt(kept * COLUMNS)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x_BCS: Tensor) -> Tensor:
        inputs_RK = (self.columns[..., None] * COLUMNS + torch.arange(COLUMNS, device=x_BCS.device)).flatten(1)
        kept_BRKN = x_BCS.flatten(2).index_select(1, inputs_RK.flatten()).unflatten(1, inputs_RK.shape)
        y_BON = (self.weight_ROK @ kept_BRKN).flatten(1, 2)
        if self.bias is not None:
            y_BON = y_BON + self.bias[:, None]
        return y_BON.unflatten(2, x_BCS.shape[2:])


def layer_pair(
    part: str,
    dim: int,
    hidden: int,
    *,
    conv: type[nn.Conv2d] | type[nn.Conv3d] | None,
    row_block: int | None,
    keep: float,
) -> tuple[nn.Module, nn.Module]:
    """The two layers of a perceptron, dim -> hidden -> dim: dense for ``row_block`` None, else in block form.

    Dense layers are linear maps of the last axis, or 1 x 1 convolutions of kind ``conv``, then without the first bias.
    A row block keeps as many blocks of inputs as come nearest to the share ``keep``, at least one.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise ValueError(f"{part}: keep must be a share above 0 and at most 1, got {keep!r}; try 0.5")
    if row_block is not None:
        _check_blocks(part, dim, hidden, row_block)
        kept_of_dim, kept_of_hidden = (max(1, round(keep * width / COLUMNS)) for width in (dim, hidden))
        return (
            BlockLinear(dim, hidden, row_block=row_block, kept=kept_of_dim, bias=conv is None),
            BlockLinear(hidden, dim, row_block=row_block, kept=kept_of_hidden),
        )
    if conv is None:
        return nn.Linear(dim, hidden), nn.Linear(hidden, dim)
    return conv(dim, hidden, 1, bias=False), conv(hidden, dim, 1)


def _check_blocks(part: str, dim: int, hidden: int, row_block: int) -> None:
    common = math.gcd(dim, hidden)
    if common % COLUMNS:
        seen = f"dim {dim} and hidden {hidden}"
        raise ValueError(f"{part}: row_block {row_block!r} needs widths that are multiples of {COLUMNS}, got {seen}")
    if isinstance(row_block, bool) or not isinstance(row_block, int) or row_block < 1 or common % row_block:
        divides = f"must divide dim {dim} and hidden {hidden}"
        raise ValueError(f"{part}: row_block {divides}, got {row_block!r}; try {common}")
