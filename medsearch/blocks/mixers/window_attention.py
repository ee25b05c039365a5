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
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import MASKED, OffsetTable, Projections, SoftmaxProduct, attention_heads
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import one_of, per_axis
from medsearch.blocks.nd import crop_to, pad_to_multiple, split_blocks, to_first, to_last


@MIXERS.add("window_attention")
class WindowAttention(nn.Module):
    """Mix the positions of every window of ``window`` positions per axis.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        window: edge of a window in positions, or one per axis like ``"4x7x7"``; an axis of the map that is shorter is
            one window.
        shift: how far windows are moved along every longer axis, or one per axis; Swin alternates 0 and window // 2.
        position: ``"table"`` adds a learned bias per offset and head to the scores, ``"none"`` nothing.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        qk_dim: width of a head's queries and keys; None gives them ``head_dim``.
        bias: whether queries, keys and values have a bias.
        scale: ``"head"`` divides scores by the root of the width of a head's queries, ``"full"`` by that of C.
        select: a query keeps one in ``select`` of its window's positions (padding counted); 1 keeps all.
        least: fewest positions kept.
        differential: the difference of two maps of half the width each, as in Differential Transformer.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of a depthwise window on the values, added to the result; odd, 0 for none.

    Cost, with inner = heads * head_dim: (4 * C + 2 * window^dims) * inner multiply-adds per position, padded ones
    included in all but the projection out; a gate adds C * inner, a local filter local^dims * inner.
    """

    FAMILY = "window_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        window: int | str = 7,
        shift: int | str = 0,
        position: str = "table",
        heads: int | None = None,
        head_dim: int | None = None,
        qk_dim: int | None = None,
        bias: bool = True,
        scale: str = "head",
        select: int = 1,
        least: int = 8,
        differential: bool = False,
        lambda_init: float = 0.5,
        gate: bool = False,
        local: int = 0,
    ) -> None:
        super().__init__()
        part = "window_attention"
        self.window = per_axis(part, "window", window, dims)
        self.shift = per_axis(part, "shift", shift, dims, least=0)
        for step, edge in zip(self.shift, self.window, strict=True):
            if step >= edge:
                raise ValueError(f"{part}: shift must be below window {window}, got {shift!r}; try {edge // 2}")
        shape = attention_heads(part, dim, heads, head_dim, qk_dim, differential=differential)
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=gate, local=local)
        self.product = SoftmaxProduct(
            part,
            dim,
            shape,
            scale=scale,
            select=select,
            least=least,
            differential=differential,
            lambda_init=lambda_init,
        )
        table = one_of(part, "position", position, ("table", "none")) == "table"
        self.position = OffsetTable(self.window, shape.heads) if table else None

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        window, shift, padded = self._layout(size)
        x_BSC = self.project.norm(to_last(x_BCS))
        q, k, v = self.project(split_blocks(_rolled(pad_to_multiple(x_BSC, window), shift), window))
        mixed = [self.product.grouped(q, k, v, self._bias(size, window, shift))]
        mixed += [] if self.project.local is None else [v.transpose(2, 3)]
        back = tuple(-step for step in shift)
        maps = [crop_to(_rolled(_joined(part, window, padded), back), size) for part in mixed]
        return to_first(self.project.leave(maps[0], x_BSC, maps[-1]))

    def groups(self) -> dict[str, Group]:
        """The heads, each with its column of the bias table."""
        table = () if self.position is None else (Axis("position.table", 1),)
        return {"heads": self.project.group("project", *table)}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many positions a query reads on a map of ``size``."""
        return self.product.kept(prod(self._layout(size)[0]))

    def _layout(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Window and shift on a map of ``size``, and the size it is padded to."""
        window = tuple(min(edge, length) for edge, length in zip(self.window, size, strict=True))
        shift = tuple(
            step if length > edge else 0 for step, edge, length in zip(self.shift, self.window, size, strict=True)
        )
        return window, shift, tuple(length + -length % edge for length, edge in zip(size, window, strict=True))

    def _bias(self, size: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> Tensor | None:
        """What is added to scores: (1, H, T, T) where all windows are alike, else (G, H or 1, T, T)."""
        bias_1HTT = None
        if self.position is not None:
            places = (torch.arange(edge, device=self.position.table.device) for edge in window)
            bias_1HTT = self.position([place.unsqueeze(1) - place for place in places]).unsqueeze(0)
        if not any(shift) and not any(length % edge for length, edge in zip(size, window, strict=True)):
            return bias_1HTT
        part_GT = _parts(size, window, shift, self.project.norm.weight)
        apart_GTT = (part_GT.unsqueeze(1) - part_GT.unsqueeze(2)).abs().clamp(max=1)  # a comparison is slower
        apart_G1TT = apart_GTT.unsqueeze(1) * MASKED
        return apart_G1TT if bias_1HTT is None else bias_1HTT + apart_G1TT


def _rolled(x_BSC: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Move (B, *S, C) cyclically by ``shift`` positions towards the start of every spatial axis."""
    axes = [axis for axis, step in enumerate(shift, start=1) if step]
    return torch.roll(x_BSC, [-shift[axis - 1] for axis in axes], axes) if axes else x_BSC


def _joined(y_BGHTD: Tensor, window: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    """(B, *size, H * D): every window's tokens back in their places, the heads beside each other."""
    dims = len(window)
    grid = [length // edge for length, edge in zip(size, window, strict=True)]
    order = [0]
    for axis in range(dims):
        order += [1 + axis, 2 + dims + axis]
    y = y_BGHTD.reshape(-1, *grid, y_BGHTD.shape[2], *window, y_BGHTD.shape[-1])
    return y.permute(*order, 1 + dims, 2 + 2 * dims).reshape(-1, *size, y.shape[1 + dims] * y.shape[-1])


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
