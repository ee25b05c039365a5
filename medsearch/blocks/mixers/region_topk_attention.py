"""Region top-k attention: a region reads the regions most like it, a position only the best positions in them.

Source: dual sparse selection of MedFormer (Xia et al. 2025, arXiv:2507.02488): regions are routed as in BiFormer (Zhu
et al. 2023, arXiv:2303.08810, eq. 3-5), by products of their mean queries and keys, without gradient; then the best
1/select of the offered scores of every query enter the softmax.  Scores are scaled by C^(-1/2), the full width, as in
the source.  What differs: the selection is a threshold and a mask, which keeps all scores equal to the last one kept;
equal regions are taken in order; padding is never a key; at least ``least`` positions are kept; the grid shrinks with
the map.
Shapes: B batch, C channels, S spatial axes, R regions, T tokens of a region, K regions read, H heads, D width of a
head.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import MASKED, Projections, SoftmaxProduct, attention_heads
from medsearch.blocks.groups import Group
from medsearch.blocks.knobs import per_axis, whole_number
from medsearch.blocks.nd import (
    crop_to,
    join_blocks,
    pad_to_multiple,
    real_tokens,
    split_blocks,
    to_first,
    to_last,
    without_autocast,
)


@MIXERS.add("region_topk_attention")
class RegionTopkAttention(nn.Module):
    """Let every position read the best positions of the regions that its own region resembles most.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        regions: regions per axis, at most, or one number per axis like ``"2x7x7"``; a shorter axis has one per
            position.
        top_regions: regions read by every region, the same for all heads; all where the map has no more.
        select: a query keeps one in ``select`` of the positions it is offered (padding counted); 1 keeps all.
        least: fewest positions kept where that many are offered; the source keeps 8 in all stages at 224 pixels, and
            with a single one queries and keys would get no gradient.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        qk_dim: width of a head's queries and keys; None gives them ``head_dim``.
        bias: whether queries, keys and values have a bias.
        scale: ``"full"`` divides scores by the root of C, ``"head"`` by that of the width of a head's queries.
        differential: the difference of two maps of half the width each, as in Differential Transformer.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of the depthwise window on the values; odd, 0 for none.

    Cost, with inner = heads * head_dim and K * T offered positions: (4 * C + 2 * K * T + local^dims) * inner
    multiply-adds per position (what padded ones see is computed, too), and R^2 * inner for the routing; a gate adds
    C * inner per position.
    """

    FAMILY = "sparse_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        regions: int | str = 7,
        top_regions: int = 4,
        select: int = 8,
        least: int = 8,
        heads: int | None = None,
        head_dim: int | None = None,
        qk_dim: int | None = None,
        bias: bool = True,
        scale: str = "full",
        differential: bool = False,
        lambda_init: float = 0.5,
        gate: bool = False,
        local: int = 5,
    ) -> None:
        super().__init__()
        part = "region_topk_attention"
        self.regions = per_axis(part, "regions", regions, dims)
        self.top_regions = whole_number(part, "top_regions", top_regions)
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

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        window, padded = self._layout(size)
        x_BSC = self.project.norm(to_last(x_BCS))
        q, k, v = self.project(x_BSC)
        blocks = (*window, 1)  # as if heads were an axis of the map, which gives every region's heads in one copy
        split = (split_blocks(pad_to_multiple(part_BSHD, blocks), blocks) for part_BSHD in (q, k, v))
        real_RT = None if padded == size else real_tokens(size, window, x_BSC)
        heads = self.project.shape.heads
        y_BRHTD = self._attend(*(part.unflatten(1, (-1, heads)) for part in split), real_RT=real_RT)
        y_BSHD = crop_to(join_blocks(y_BRHTD.flatten(1, 2), blocks, (*padded, heads)), (*size, heads))
        return to_first(self.project.leave(y_BSHD.flatten(-2), x_BSC, v.flatten(-2)))

    def groups(self) -> dict[str, Group]:
        """The heads; the routing sees the fewer of them."""
        return {"heads": self.project.group("project")}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many positions a query reads on a map of ``size``, padding counted."""
        window, padded = self._layout(size)
        regions = prod(padded) // prod(window)
        return self.product.kept(min(self.top_regions, regions) * prod(window))

    def _layout(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Edges of a region on a map of ``size``, and the size it is padded to."""
        window = tuple(-(-length // min(count, length)) for count, length in zip(self.regions, size, strict=True))
        return window, tuple(length + -length % edge for length, edge in zip(size, window, strict=True))

    def _attend(self, q_BRHTD: Tensor, k_BRHTD: Tensor, v_BRHTD: Tensor, *, real_RT: Tensor | None) -> Tensor:
        """(B, R, H, T, D): what the positions of every region see."""
        batch, regions, heads, tokens, _ = q_BRHTD.shape
        q, k, v = q_BRHTD, k_BRHTD, v_BRHTD
        bias = None if real_RT is None else (1 - real_RT) * MASKED
        if self.top_regions >= regions:
            q, k, v = (part.transpose(1, 2).flatten(2, 3) for part in (q, k, v))
            bias = None if bias is None else bias.reshape(1, 1, 1, -1)
            return self.product(q, k, v, bias).unflatten(2, (regions, tokens)).transpose(1, 2)
        top_BRK = self._route(q, k, real_RT)
        k, v = _gather(k, top_BRK), _gather(v, top_BRK)
        bias = None if bias is None else bias[top_BRK].reshape(-1, 1, 1, k.shape[-2])
        y = self.product(*(part.flatten(0, 1) for part in (q, k, v)), bias)
        return y.reshape(batch, regions, heads, tokens, -1)

    def _route(self, q_BRHTD: Tensor, k_BRHTD: Tensor, real_RT: Tensor | None) -> Tensor:
        """(B, R, K): the regions that each region reads, by the products of mean queries and keys.

        Equal regions are taken in order: every further one counts as worse by a millionth of the best product.
        """
        with torch.no_grad(), without_autocast(q_BRHTD.device):
            q_BRC, k_BRC = (_region_means(part, real_RT) for part in (q_BRHTD, k_BRHTD))
            affinity_BRR = q_BRC @ k_BRC.transpose(1, 2)
            step_BR1 = 1e-6 * affinity_BRR.abs().amax(dim=-1, keepdim=True).clamp_min(1e-6)
            order_R = torch.arange(q_BRC.shape[1], dtype=affinity_BRR.dtype, device=q_BRC.device)
            return (affinity_BRR - step_BR1 * order_R).topk(self.top_regions, dim=-1).indices


def _region_means(x_BRHTD: Tensor, real_RT: Tensor | None) -> Tensor:
    """(B, R, C) in float32 at least: means over the positions that are none of padding, where there are zeros."""
    mean_BRC = x_BRHTD.mean(dim=3, dtype=torch.promote_types(x_BRHTD.dtype, torch.float32)).flatten(2)
    return mean_BRC if real_RT is None else mean_BRC / real_RT.to(mean_BRC.dtype).mean(dim=1).unsqueeze(-1)


def _gather(k_BRHTD: Tensor, top_BRK: Tensor) -> Tensor:
    """(B, R, H, K * T, D): the tokens of the regions in ``top_BRK``; whole rows of T * D numbers are copied."""
    batch, regions, heads, tokens, width = k_BRHTD.shape
    first_B111 = torch.arange(batch, device=top_BRK.device).reshape(-1, 1, 1, 1) * regions
    head_H1 = torch.arange(heads, device=top_BRK.device).unsqueeze(-1)
    row_BRHK = (first_B111 + top_BRK.unsqueeze(2)) * heads + head_H1
    rows = k_BRHTD.reshape(-1, tokens * width).index_select(0, row_BRHK.reshape(-1))
    return rows.reshape(batch, regions, heads, -1, width)
