"""Window attention: softmax attention inside windows, which a second block may shift, with a learned bias per offset.

Source: Swin (Liu et al. 2021, arXiv:2103.14030, eq. 4 and section 3.2): softmax(q k^T / sqrt(D) + bias) v, the shift by
a cyclic roll and a mask.  What differs: padding never takes part as a key (Swin lets zero tokens in), so that a map
that is no multiple of the window is not diluted; without padding the two agree.  An axis shorter than the window is one
window, not shifted.
Shapes: B batch, C channels, S spatial axes, G windows, T tokens of a window, H heads, D width of a head.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.nd import (
    crop_to,
    head_shape,
    join_blocks,
    pad_to_multiple,
    split_blocks,
    to_first,
    to_last,
    whole_number,
)

_MASKED = -1e4  # finite, so that rows of padding stay finite; representable in half precision


@MIXERS.add("window_attention")
class WindowAttention(nn.Module):
    """Mix the positions of every window of ``window`` positions per axis.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        window: edge of a window in positions; an axis of the map that is shorter is one window.
        shift: how far windows are moved along every longer axis; Swin alternates 0 and window // 2.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head.

    Cost, with inner = heads * head_dim: (4 * C + 2 * window^dims) * inner multiply-adds per (padded) position.
    """

    FAMILY = "window_attention"
    NORM = "layer"

    def __init__(
        self, dim: int, *, dims: int, window: int = 7, shift: int = 0, heads: int | None = None, head_dim: int = 32
    ) -> None:
        super().__init__()
        self.window = whole_number("window_attention", "window", window)
        self.shift = whole_number("window_attention", "shift", shift, least=0)
        if shift >= window:
            raise ValueError(f"window_attention: shift must be below window {window}, got {shift}; try {window // 2}")
        self.heads, self.head_dim = head_shape("window_attention", dim, heads, head_dim)
        inner = self.heads * self.head_dim
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner)
        self.proj = nn.Linear(inner, dim)
        self.table = nn.Parameter(torch.empty((2 * window - 1) ** dims, self.heads))
        nn.init.normal_(self.table, std=0.02)

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        window = tuple(min(self.window, length) for length in size)
        shift = tuple(self.shift if length > self.window else 0 for length in size)
        x_BSC = _rolled(pad_to_multiple(self.norm(to_last(x_BCS)), window), shift)
        padded = tuple(x_BSC.shape[1:-1])
        y_BGTC = self._attend(self.qkv(split_blocks(x_BSC, window)), self._bias(size, window, shift))
        y_BSC = join_blocks(self.proj(y_BGTC), window, padded)
        return to_first(crop_to(_rolled(y_BSC, tuple(-step for step in shift)), size))

    def groups(self) -> dict[str, Group]:
        """The heads, each with its column of the bias table."""
        made = (Axis("qkv", unit=self.head_dim, repeats=3), Axis("table", 1))
        return {"heads": Group(made, Axis("proj.weight", 1, unit=self.head_dim))}

    def _bias(self, size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
        """(1, H, T, T) where all windows are alike, else (1, G * H, T, T) with the mask of every window added."""
        tokens = prod(window)
        bias_1HTT = self._offset_bias(window).reshape(1, self.heads, tokens, tokens)
        if not any(shift) and not any(length % edge for length, edge in zip(size, window, strict=True)):
            return bias_1HTT
        part_GT = _parts(size, window, shift, self.table)
        apart_G1TT = (part_GT.unsqueeze(1) != part_GT.unsqueeze(2)).unsqueeze(1).to(bias_1HTT.dtype)
        return (bias_1HTT + apart_G1TT * _MASKED).reshape(1, -1, tokens, tokens)

    def _offset_bias(self, window: tuple[int, ...]) -> Tensor:
        """(H, *window, *window): the table's entry for the offset between two tokens, looked up axis by axis."""
        dims = len(window)
        bias = self.table.reshape(*[2 * self.window - 1] * dims, self.heads)
        for axis, edge in enumerate(window):
            place = torch.arange(edge, device=bias.device)
            bias = bias.index_select(axis, (place.unsqueeze(1) - place + self.window - 1).reshape(-1))
        pairs = [edge for edge in window for _ in range(2)]
        return bias.reshape(*pairs, self.heads).permute(2 * dims, *range(0, 2 * dims, 2), *range(1, 2 * dims, 2))

    def _attend(self, qkv_BGTC: Tensor, bias: Tensor) -> Tensor:
        batch, blocks, tokens, _ = qkv_BGTC.shape
        split = qkv_BGTC.reshape(batch, blocks, tokens, 3, self.heads, self.head_dim).permute(3, 0, 1, 4, 2, 5)
        q, k, v = split.reshape(3, -1, bias.shape[1], tokens, self.head_dim).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y_BGTHD = y.reshape(batch, blocks, self.heads, tokens, self.head_dim).transpose(2, 3)
        return y_BGTHD.clone(memory_format=torch.contiguous_format).reshape(batch, blocks, tokens, -1)


def _rolled(x_BSC: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Move (B, *S, C) cyclically by ``shift`` positions towards the start of every spatial axis."""
    axes = [axis for axis, step in enumerate(shift, start=1) if step]
    return torch.roll(x_BSC, [-shift[axis - 1] for axis in axes], axes) if axes else x_BSC


def _parts(size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...], like: Tensor) -> Tensor:
    """(G, T): tokens of a window attend to each other where this number is equal; 0 is padding.

    The first ``shift`` positions of an axis wrap around to the far side, where they meet positions they do not touch.
    """
    part_BSC = torch.ones(1, *size, 1, dtype=like.dtype, device=like.device)
    for axis, (length, step) in enumerate(zip(size, shift, strict=True)):
        wraps = torch.arange(length, device=like.device) < step
        shape = [length if other == axis else 1 for other in range(len(size))]
        part_BSC = part_BSC + wraps.reshape(1, *shape, 1).to(like.dtype) * 2**axis
    return split_blocks(_rolled(pad_to_multiple(part_BSC, window), shift), window)[0, :, :, 0]
