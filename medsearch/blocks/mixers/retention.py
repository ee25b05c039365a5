"""Retention: every position reads all others, each less by a fixed factor per step of distance.

Source: RetNet (Sun et al. 2023, arXiv:2307.08621, eq. 5 and 8), whose order makes no sense in an image; so, as proposed
for images by ViR (Hatamizadeh et al. 2023, arXiv:2310.19731), distance has several axes: y_n = sum_m
g^(|n - m| over all axes) (q_n . k_m / sqrt(D)) v_m in both directions, g = 1 - 2^(-decay - head), a norm of every head,
times SiLU(x W).  The form by axes, y = R_1(R_2(v)) with the products of one axis at a time, is that of RMT (Fan et al.
2023, arXiv:2309.11523, eq. 7), there with a softmax.  What differs: the decay of every row is divided by its sum, which
the norm undoes but for its 1e-5; a depthwise convolution of the values is added after the norm, as in RMT.
Shapes: B batch, C channels, S spatial axes, N positions, L those along one axis, H heads, D width of a head.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import Projections, attention_heads
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import one_of, whole_number
from medsearch.blocks.nd import to_first, to_last


@MIXERS.add("retention")
class Retention(nn.Module):
    """Mix all positions by products that fade with distance, near ones in the first heads, far ones in the last.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        form: ``"axial"``, one axis after the other, or ``"full"``, all pairs of positions at once.
        decay: the first head loses 2^-decay of a value per step of distance, every further head half as much.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        local: edge of the depthwise window on the values; odd, 0 for none.
        bias: whether queries, keys and values have a bias.

    Cost, with inner = heads * head_dim: (5 * C + local^dims + 2 * L) * inner multiply-adds per position, where L is the
    sum of the lengths of all axes, or their product for ``"full"``.
    """

    FAMILY = "linear_attention"
    NORM = "layer"
    step_H: Tensor

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        form: str = "axial",
        decay: int = 5,
        heads: int | None = None,
        head_dim: int | None = None,
        local: int = 3,
        bias: bool = True,
    ) -> None:
        super().__init__()
        part = "retention"
        self.form = one_of(part, "form", form, ("axial", "full"))
        shape = attention_heads(part, dim, heads, head_dim)
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=True, local=local)
        self.gain = nn.Parameter(torch.ones(shape.inner))
        self.offset = nn.Parameter(torch.zeros(shape.inner))
        self.register_buffer("step_H", whole_number(part, "decay", decay) + torch.arange(shape.heads).float())

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        x_BSC = self.project.norm(to_last(x_BCS))
        q, k, v = self.project(x_BSC)
        y = self._by_axis(q, k, v, size) if self.form == "axial" else self._at_once(q, k, v, size)
        return to_first(self.project.leave(self._normed(y), x_BSC, v.flatten(-2)))

    def groups(self) -> dict[str, Group]:
        """The heads, each with its norm and its decay."""
        width = self.project.shape.head_dim
        more = (Axis("gain", unit=width), Axis("offset", unit=width), Axis("step_H"))
        return {"heads": self.project.group("project", *more)}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many positions a query reads on a map of ``size``: those along each axis, or all."""
        return sum(size) if self.form == "axial" else prod(size)

    def _by_axis(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, size: tuple[int, ...]) -> Tensor:
        """(B, *S, H, D): the last axis first, what it gives are the values of the one before."""
        last = len(size) + 1  # not -2: torch's older exporter loses its way among axes counted from the end
        for axis in range(len(size), 0, -1):
            q, k, v = (part.movedim(axis, last) for part in (q_BSHD, k_BSHD, v_BSHD))
            v_BSHD = _faded(q, k, v, self._decay(size[axis - 1])).movedim(last, axis)
        return v_BSHD

    def _at_once(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, size: tuple[int, ...]) -> Tensor:
        """(B, *S, H, D): the decay of two positions is the product of those along the axes."""
        decay_HNN = self._decay(size[0])
        for length in size[1:]:
            more_HLL = self._decay(length)
            pairs = decay_HNN[:, :, None, :, None] * more_HLL[:, None, :, None, :]
            decay_HNN = pairs.flatten(3, 4).flatten(1, 2)
        axes = (1, len(size))
        q, k, v = (part.flatten(*axes).transpose(1, 2) for part in (q_BSHD, k_BSHD, v_BSHD))
        return _faded(q, k, v, decay_HNN).transpose(1, 2).unflatten(1, size)

    def _decay(self, length: int) -> Tensor:
        """(H, L, L): what is left from position to position of an axis, its rows summing to 1, in float32."""
        rate_H = torch.log1p(-(0.5 ** self.step_H.to(torch.promote_types(self.step_H.dtype, torch.float32))))
        place_L = torch.arange(length, device=rate_H.device, dtype=rate_H.dtype)
        decay_HLL = (rate_H[:, None, None] * (place_L[:, None] - place_L).abs()).exp()
        return decay_HLL / decay_HLL.sum(dim=-1, keepdim=True)

    def _normed(self, y_BSHD: Tensor) -> Tensor:
        """The channels of every head and position at mean 0 and deviation 1, then scaled and moved, in float32."""
        wide = torch.promote_types(y_BSHD.dtype, torch.float32)
        y_BSC = F.layer_norm(y_BSHD.to(wide), (self.project.shape.head_dim,)).flatten(-2)
        return (y_BSC * self.gain + self.offset).to(y_BSHD.dtype)


def _faded(q: Tensor, k: Tensor, v: Tensor, decay_HLL: Tensor) -> Tensor:
    """(..., H, L, D): values weighted by products of queries and keys and by the decay between their places."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (scores * decay_HLL).to(v.dtype) @ v
