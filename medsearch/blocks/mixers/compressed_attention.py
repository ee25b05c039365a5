"""Compressed attention: unimportant positions stand aside, similar ones attend as one, and get the result back.

Source: the compressed attention of TCSAFormer (Xia et al. 2025, arXiv:2508.04058).  A query made of the mean of all
positions weighs the positions by keys of its own, s = softmax(g k^T / sqrt(D)); the best ``keep`` of them stay.  They
are split in two by turns, and by cosine of those keys the ``merge`` of them most like one of the other half is averaged
into it (as in ToMe, Bolya et al. 2023, arXiv:2210.09461).  The M left attend to each other, each query to its best
1/select; what they get is copied back to all they stand for, and the others keep the normed input; then one projection.
What differs: by default kept positions take turns in the order of the map, not of their importance; choices are made in
float32, equals in order; the importance of a kept position is a factor of 1 that has a gradient, as the layers that
make it would have none in the source.
Shapes: B batch, C channels, S spatial axes, N positions, K kept ones, E of one half and O of the other, R of those E
that merge, M tokens left, H heads, D width of a head.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import HeadShape, Projections, SoftmaxProduct
from medsearch.blocks.knobs import one_of, whole_number
from medsearch.blocks.nd import to_first, to_last, without_autocast

SAME = 1e-5
"""Scores that are less apart than this share of the largest may count as equal."""


class TokenCounts(NamedTuple):
    """How many positions there are, how many of them are kept in either half, and how many of the first half merge."""

    positions: int
    even: int
    odd: int
    merged: int

    @property
    def tokens(self) -> int:
        """How many are left to attend."""
        return self.even + self.odd - self.merged


@MIXERS.add("compressed_attention")
class CompressedAttention(nn.Module):
    """Let the most important positions, alike ones together, read the best of each other.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        keep: share of the positions that attend, above 0 and at most 1.
        merge: share of those that is merged into others, at least 0 and at most 0.5.
        turns: the order in which kept positions take turns in the two halves: ``"position"``, so that neighbours meet
            and rounding cannot change it, or ``"importance"`` (the source), which does not depend on the layout.
        select: a query keeps one in ``select`` of the tokens; 1 keeps all.
        least: fewest tokens kept where there are that many; the source has 1.
        heads: number of heads, a divisor of C; None gives as many as divide C and are ``head_dim`` wide or wider.
        head_dim: least width of a head where ``heads`` is None.
        bias: whether queries, keys and values have a bias.
        scale: ``"head"`` divides scores by the root of the width of a head, ``"full"`` by that of C.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of a depthwise window on the normed input, added to the result; odd, 0 for none.

    Cost: with K kept of N positions and M tokens, 2 * N * C^2 + N * C + C^2 for the choice and the projection out,
    K^2 / 4 * C for the matching and 3 * M * C^2 + 2 * M^2 * C for the attention: quadratic in N.
    """

    FAMILY = "sparse_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        keep: float = 0.5,
        merge: float = 0.3,
        turns: str = "position",
        select: int = 8,
        least: int = 8,
        heads: int | None = None,
        head_dim: int = 32,
        bias: bool = False,
        scale: str = "head",
        gate: bool = False,
        local: int = 0,
    ) -> None:
        super().__init__()
        part = "compressed_attention"
        if not _is_number(keep) or not 0 < keep <= 1:
            raise ValueError(f"{part}: keep must be above 0 and at most 1, got {keep!r}; try 0.5")
        if not _is_number(merge) or not 0 <= merge <= 0.5:
            nearest = min(max(merge, 0.0), 0.5) if _is_number(merge) and merge == merge else 0.3
            raise ValueError(f"{part}: merge must be at least 0 and at most 0.5, got {merge!r}; try {nearest}")
        self.keep, self.merge = keep, merge
        self.in_order = one_of(part, "turns", turns, ("position", "importance")) == "position"
        shape = _dividing_heads(part, dim, heads, head_dim)
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=gate, local=local)
        self.product = SoftmaxProduct(part, dim, shape, scale=scale, select=select, least=least)
        self.overall = nn.Linear(dim, dim, bias=False)
        self.traits = nn.Linear(dim, dim, bias=False)

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        x_BSC = self.project.norm(to_last(x_BCS))
        x_BNC = x_BSC.flatten(1, -2)
        plan = self._plan(prod(size))
        with without_autocast(x_BNC.device):
            importance_BN, traits_BNC = self._importance(x_BNC.to(self.traits.weight.dtype))
            kept_BK = _ranked(importance_BN.detach())[:, : plan.even + plan.odd]
            kept_BK = kept_BK.sort(dim=1).values if self.in_order else kept_BK
            kept_BK, partner_BR = _paired(kept_BK, traits_BNC.detach(), plan)
        one_BN1 = 1 + (importance_BN - importance_BN.detach()).unsqueeze(-1)
        tokens_BMC = _merged(_rows(x_BNC, kept_BK) * _rows(one_BN1, kept_BK), partner_BR, plan)
        table_BC = torch.cat((self._attend(tokens_BMC), x_BNC), dim=1)
        y_BNC = _rows(table_BC, _sources(kept_BK, partner_BR, plan))
        return to_first(self.project.leave(y_BNC.unflatten(1, size), x_BSC, x_BSC))

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many tokens one of the tokens that are left reads on a map of ``size``."""
        return self.product.kept(self._plan(prod(size)).tokens)

    def _plan(self, positions: int) -> TokenCounts:
        kept = max(1, int(positions * self.keep))
        left = max(1, int((1 - self.merge) * kept))
        return TokenCounts(positions, kept - kept // 2, kept // 2, min(kept - left, kept // 2))

    def _importance(self, x_BNC: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N), the logarithm of each position's weight for the image as a whole, and (B, N, C), what it is by."""
        overall_B1C, traits_BNC = self.overall(x_BNC.mean(dim=1, keepdim=True)), self.traits(x_BNC)
        scores_BN = (traits_BNC @ overall_B1C.transpose(1, 2)).squeeze(-1) * self.project.shape.head_dim**-0.5
        return scores_BN.to(_wide(scores_BN)).log_softmax(dim=-1), traits_BNC

    def _attend(self, x_BMC: Tensor) -> Tensor:
        q, k, v = (part.transpose(1, 2) for part in self.project(x_BMC))
        return self.product(q, k, v).transpose(1, 2).flatten(2)


def _paired(kept_BK: Tensor, traits_BNC: Tensor, plan: TokenCounts) -> tuple[Tensor, Tensor]:
    """The kept positions (B, K), the even half first, from most to least like its like in the odd half; and (B, R),
    for those that merge, the number of that like in the odd half.
    """
    even_BE, odd_BO = kept_BK[:, ::2], kept_BK[:, 1::2]
    if plan.merged == 0:
        return torch.cat((even_BE, odd_BO), dim=1), even_BE[:, :0]
    wide = traits_BNC.to(_wide(traits_BNC))
    even_BEC, odd_BOC = (F.normalize(_rows(wide, half), dim=-1) for half in (even_BE, odd_BO))
    likeness_BE, partner_BE = (even_BEC @ odd_BOC.transpose(1, 2)).max(dim=-1)
    order_BE = _ranked(likeness_BE)
    kept_BK = torch.cat((even_BE.gather(1, order_BE), odd_BO), dim=1)
    return kept_BK, partner_BE.gather(1, order_BE)[:, : plan.merged]


def _ranked(score_BN: Tensor) -> Tensor:
    """(B, N): from best to worst, equals in order.

    Equal positions of a map get scores that rounding makes differ, on every machine in another way: so scores are
    counted in steps, and what is on the same one is equal.
    """
    steps_BN = (score_BN / score_BN.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / SAME).round().long()
    count = score_BN.shape[1]
    key_BN = steps_BN * count - torch.arange(count, device=score_BN.device)
    return key_BN.sort(dim=1, descending=True).indices


def _merged(kept_BKC: Tensor, partner_BR: Tensor, plan: TokenCounts) -> Tensor:
    """(B, M, C): what is left of the first half, then the other half, each the mean of itself and what joined it.

    Sums are divided by counts: a mean by ``scatter_reduce`` is exported as an assignment, silently.  They are sums of
    differences, so that the mean of equals is what they are.
    """
    if plan.merged == 0:
        return kept_BKC
    joining, staying, odd = kept_BKC.to(_wide(kept_BKC)).split([plan.merged, plan.even - plan.merged, plan.odd], dim=1)
    apart = joining - _rows(odd, partner_BR)
    sums_BOC = torch.zeros_like(odd).scatter_add(1, partner_BR.unsqueeze(-1).expand(-1, -1, odd.shape[-1]), apart)
    counts_BO = torch.ones_like(odd[..., 0]).scatter_add(1, partner_BR, torch.ones_like(joining[..., 0]))
    return torch.cat((staying, odd + sums_BOC / counts_BO.unsqueeze(-1)), dim=1).to(kept_BKC.dtype)


def _sources(kept_BK: Tensor, partner_BR: Tensor, plan: TokenCounts) -> Tensor:
    """(B, N): the row that each position reads of the M tokens, followed by all N positions as they came."""
    row = torch.arange(plan.tokens + plan.positions, device=kept_BK.device).expand(kept_BK.shape[0], -1)
    staying = plan.even - plan.merged
    row_of_kept_BK = torch.cat((partner_BR + staying, row[:, : plan.tokens]), dim=1)
    return row[:, plan.tokens :].scatter(1, kept_BK, row_of_kept_BK)


def _rows(x_BNC: Tensor, index_BM: Tensor) -> Tensor:
    """(B, M, C): the rows of every image's own that ``index`` says."""
    batch, rows, width = x_BNC.shape
    first_B1 = torch.arange(batch, device=index_BM.device).unsqueeze(-1) * rows
    chosen = x_BNC.reshape(-1, width).index_select(0, (index_BM + first_B1).reshape(-1))
    return chosen.reshape(batch, -1, width)


def _wide(x: Tensor) -> torch.dtype:
    """Float32, or what is wider."""
    return torch.promote_types(x.dtype, torch.float32)


def _is_number(value: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dividing_heads(part: str, dim: int, heads: int | None, head_dim: int) -> HeadShape:
    """Heads that take all of ``dim``, as positions that stand aside bring all of it to the projection."""
    most = max(1, dim // whole_number(part, "head_dim", head_dim))
    wanted = most if heads is None else whole_number(part, "heads", heads)
    fitting = next(count for count in range(min(wanted, dim), 0, -1) if dim % count == 0)
    if heads is not None and heads != fitting:
        raise ValueError(f"{part}: heads must divide the {dim} channels, got {heads!r}; try {fitting}")
    return HeadShape(fitting, dim // fitting, dim // fitting)
