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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.nd import (
    crop_to,
    depthwise,
    head_shape,
    join_blocks,
    local_filter,
    pad_to_multiple,
    real_tokens,
    split_blocks,
    to_first,
    to_last,
    whole_number,
    without_autocast,
)

_MASKED = -1e4  # finite, so that no row is without a number; representable in half precision


@MIXERS.add("region_topk_attention")
class RegionTopkAttention(nn.Module):
    """Let every position read the best positions of the regions that its own region resembles most.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        regions: regions per axis, at most; a shorter axis has one per position.
        top_regions: regions read by every region, the same for all heads; all where the map has no more.
        select: a query keeps one in ``select`` of the positions it is offered (padding counted); 1 keeps all.
        least: fewest positions kept where that many are offered; the source keeps 8 in all stages at 224 pixels, and
            with a single one queries and keys would get no gradient.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head.
        local: edge of the depthwise window on the values; odd, 0 for none.

    Cost, with inner = heads * head_dim and K * T offered positions: (4 * C + 2 * K * T + local^dims) * inner
    multiply-adds per (padded) position, and R^2 * inner for the routing.
    """

    FAMILY = "sparse_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        regions: int = 7,
        top_regions: int = 4,
        select: int = 8,
        least: int = 8,
        heads: int | None = None,
        head_dim: int = 32,
        local: int = 5,
    ) -> None:
        super().__init__()
        part = "region_topk_attention"
        self.regions = whole_number(part, "regions", regions)
        self.top_regions = whole_number(part, "top_regions", top_regions)
        self.select = whole_number(part, "select", select)
        self.least = whole_number(part, "least", least)
        self.heads, self.head_dim = head_shape(part, dim, heads, head_dim)
        inner = self.heads * self.head_dim
        self.scale = dim**-0.5
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner)
        self.local = local_filter(part, inner, dims, local)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        inner = self.heads * self.head_dim
        window = tuple(-(-length // min(self.regions, length)) for length in size)
        qkv_BSC = self.qkv(self.norm(to_last(x_BCS)))
        padded_BSC = pad_to_multiple(qkv_BSC, window)
        padded = tuple(padded_BSC.shape[1:-1])
        real_RT = None if padded == size else real_tokens(size, window, qkv_BSC)
        y_BRTC = self._attend(split_blocks(padded_BSC, window), real_RT)
        y_BSC = crop_to(join_blocks(y_BRTC, window, padded), size)
        if self.local is not None:
            y_BSC = y_BSC + to_last(depthwise(self.local, to_first(qkv_BSC[..., 2 * inner :])))
        return to_first(self.proj(y_BSC))

    def groups(self) -> dict[str, Group]:
        """The heads, each with the local filters of its values; the routing sees the fewer of them."""
        made = (Axis("qkv", unit=self.head_dim, repeats=3), Axis("local", unit=self.head_dim))
        return {"heads": Group(made, Axis("proj.weight", 1, unit=self.head_dim))}

    def _attend(self, qkv_BRTC: Tensor, real_RT: Tensor | None) -> Tensor:
        batch, regions, tokens, _ = qkv_BRTC.shape
        routed = self.top_regions < regions
        groups = regions if routed else 1
        split = qkv_BRTC.reshape(batch, groups, -1, 3, self.heads, self.head_dim).permute(3, 0, 1, 4, 2, 5)
        q, k, v = split.unbind(0)
        padding = None if real_RT is None else (1 - real_RT) * _MASKED
        if routed:
            top_BRK = self._route(qkv_BRTC, real_RT)
            k, v = _gather(k, top_BRK), _gather(v, top_BRK)
            padding = None if padding is None else padding[top_BRK]
        if padding is not None:
            padding = padding.reshape(-1, groups, 1, 1, k.shape[-2])
        y_BRTHD = self._weigh(q, k, v, padding).transpose(2, 3).clone(memory_format=torch.contiguous_format)
        return y_BRTHD.reshape(batch, regions, tokens, -1)

    def _route(self, qkv_BRTC: Tensor, real_RT: Tensor | None) -> Tensor:
        """(B, R, K): the regions that each region reads, by the products of mean queries and keys.

        Equal regions are taken in order: every further one counts as worse by a millionth of the best product.
        """
        inner = self.heads * self.head_dim
        with torch.no_grad(), without_autocast(qkv_BRTC.device):
            mean_BRC = qkv_BRTC[..., : 2 * inner].float().mean(dim=2)
            if real_RT is not None:
                mean_BRC = mean_BRC / real_RT.float().mean(dim=1).unsqueeze(-1)
            affinity_BRR = mean_BRC[..., :inner] @ mean_BRC[..., inner:].transpose(1, 2)
            step_BR1 = 1e-6 * affinity_BRR.abs().amax(dim=-1, keepdim=True).clamp_min(1e-6)
            order_R = torch.arange(qkv_BRTC.shape[1], dtype=torch.float32, device=qkv_BRTC.device)
            return (affinity_BRR - step_BR1 * order_R).topk(self.top_regions, dim=-1).indices

    def _weigh(self, q: Tensor, k: Tensor, v: Tensor, padding: Tensor | None) -> Tensor:
        """(B, R, H, T, D): values weighted by the softmax over the best offered keys of every query."""
        offered = k.shape[-2]
        keep = min(offered, max(offered // self.select, self.least))
        if keep == offered:
            mask = None if padding is None else padding.flatten(0, 1).to(q.dtype)
            y = F.scaled_dot_product_attention(
                q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask, scale=self.scale
            )
            return y.reshape(q.shape)
        scores = (q * self.scale) @ k.transpose(-1, -2)
        if padding is not None:
            scores = scores + padding.to(scores.dtype)
        last_kept = scores.detach().topk(keep, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
        scores = scores + (scores < last_kept).to(scores.dtype) * _MASKED
        return scores.softmax(dim=-1).to(v.dtype) @ v


def _gather(k_BRHTD: Tensor, top_BRK: Tensor) -> Tensor:
    """(B, R, H, K * T, D): the tokens of the regions in ``top_BRK``; whole rows of T * D numbers are copied."""
    batch, regions, heads, tokens, width = k_BRHTD.shape
    first_B111 = torch.arange(batch, device=top_BRK.device).reshape(-1, 1, 1, 1) * regions
    head_H1 = torch.arange(heads, device=top_BRK.device).unsqueeze(-1)
    row_BRHK = (first_B111 + top_BRK.unsqueeze(2)) * heads + head_H1
    rows = k_BRHTD.reshape(-1, tokens * width).index_select(0, row_BRHK.reshape(-1))
    return rows.reshape(batch, regions, heads, -1, width)
