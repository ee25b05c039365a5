"""What all attention mixers share: queries, keys and values by head, the softmax product with its switches, and the way
out.  A mixer of its own says only which keys a query is offered.

Source: multi-head attention of Vaswani et al. 2017 (arXiv:1706.03762, eq. 1) with a norm in front.  Its switches:
the product of two maps of Differential Transformer (Ye et al. 2024, arXiv:2410.05258, eq. 1-3); the best 1/select keys
of every query, as in MedFormer (Xia et al. 2025, arXiv:2507.02488); narrow queries and keys, as in S2AFormer (Xu et al.
2025, arXiv:2505.22195); the output gate of RetNet (Sun et al. 2023, arXiv:2307.08621, eq. 8); a depthwise convolution
of the values (LePE of CSWin, Dong et al. 2022, arXiv:2107.00652); the offset table of Swin (Liu et al. 2021,
arXiv:2103.14030, eq. 4).  What differs: the selection is a threshold and a mask, which keeps all scores equal to the
last one kept, so that it is the same everywhere.
Shapes: B batch, C channels, S spatial axes, H heads, N queries, M keys, G groups of queries with keys of their own, T
queries of a group, Q width of a head's queries and keys, D width of its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import head_shape, one_of, whole_number, yes_or_no
from medsearch.blocks.nd import depthwise, local_filter, to_first, to_last

MASKED = -1e4  # finite, so that no row is without a number; representable in half precision

FEW_KEYS = 128
"""Up to so many keys, maps in half precision are written out to train on the CPU.

There the fused product takes 1.3 to 7 times as long; with more keys, maps outgrow queries, keys, values and result.
"""


class HeadShape(NamedTuple):
    """Number of heads, width of a head's values, and width of its queries and keys."""

    heads: int
    head_dim: int
    qk_dim: int

    @property
    def inner(self) -> int:
        """Width of all values."""
        return self.heads * self.head_dim


def attention_heads(
    part: str,
    dim: int,
    heads: int | None,
    head_dim: int | None,
    qk_dim: int | None = None,
    *,
    differential: bool = False,
) -> HeadShape:
    """The heads of a mixer: those given, of the width given, as :func:`~medsearch.blocks.nd.head_shape` has them.

    None for ``qk_dim`` gives queries and keys the width of the values; a differential head halves them.
    """
    even = yes_or_no(part, "differential", differential)
    heads, width = head_shape(part, max(2, dim - dim % 2) if even else dim, heads, head_dim)
    if qk_dim is None and even and width % 2:
        raise ValueError(f"{part}: head_dim must be even where differential is true, got {width}; try {width + 1}")
    narrow = width if qk_dim is None else whole_number(part, "qk_dim", qk_dim)
    if even and narrow % 2:
        raise ValueError(f"{part}: qk_dim must be even where differential is true, got {narrow}; try {narrow + 1}")
    return HeadShape(heads, width, narrow)


class Projections(nn.Module):
    """Into attention and out of it: norm, queries, keys and values by head; then local filter, gate, projection.

    Three layers make queries, keys and values: as fast as one, and a head is the same rows of each.

    Args:
        part: name of the mixer, for messages.
        dim: channels C, in and out.
        shape: the heads.
        dims: spatial axes, 2 or 3.
        bias: whether queries, keys and values have a bias.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of a depthwise window on the values, whose result is added; odd, 0 for none.
    """

    def __init__(
        self,
        part: str,
        dim: int,
        shape: HeadShape,
        *,
        dims: int,
        bias: bool = True,
        gate: bool = False,
        local: int = 0,
    ) -> None:
        super().__init__()
        self.dim, self.shape = dim, shape
        self.norm = nn.LayerNorm(dim)
        self.q = nn.Linear(dim, shape.heads * shape.qk_dim, yes_or_no(part, "bias", bias))
        self.k = nn.Linear(dim, shape.heads * shape.qk_dim, bias)
        self.v = nn.Linear(dim, shape.inner, bias)
        self.gate = nn.Linear(dim, shape.inner) if yes_or_no(part, "gate", gate) else None
        self.local = local_filter(part, shape.inner, dims, local)
        self.out = nn.Linear(shape.inner, dim)

    def forward(
        self, x_BSC: Tensor, keys_BSC: Tensor | None = None, values_BSC: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (..., H, Q) and values (..., H, D) of normed channels (..., C).

        Keys are made from the same channels unless they get their own, values from those of the keys.
        """
        keys_BSC = x_BSC if keys_BSC is None else keys_BSC
        values_BSC = keys_BSC if values_BSC is None else values_BSC
        q, k, v = self.q(x_BSC), self.k(keys_BSC), self.v(values_BSC)
        return self._by_head(q), self._by_head(k), self._by_head(v)

    def leave(self, y_BSC: Tensor, x_BSC: Tensor, v_BSC: Tensor | None = None) -> Tensor:
        """(B, *S, C) from the mixed values, the normed input (for the gate) and the values (for a local filter)."""
        if self.local is not None:
            assert v_BSC is not None
            y_BSC = y_BSC + to_last(depthwise(self.local, to_first(v_BSC)))
        if self.gate is not None:
            y_BSC = y_BSC * F.silu(self.gate(x_BSC))
        return self.out(y_BSC)

    def group(self, name: str, *more: Axis) -> Group:
        """The heads as prunable units of a mixer that holds this under ``name``; ``more`` of its own goes along."""
        _, width, narrow = self.shape
        units = {"q": narrow, "k": narrow, "v": width, "gate": width, "local": width}
        made = [Axis(f"{name}.{layer}", unit=unit) for layer, unit in units.items() if getattr(self, layer) is not None]
        return Group((*made, *more), Axis(f"{name}.out.weight", 1, unit=width))

    def _by_head(self, made_BSC: Tensor) -> Tensor:
        return made_BSC.unflatten(-1, (self.shape.heads, -1))


class SoftmaxProduct(nn.Module):
    """softmax(q k^T scale + bias) v, and what may become of the maps in it.

    The fused product stores no map.  Maps are written out where keys are selected in them, where keys are few and
    widths unequal, which is faster then, and to train on the CPU where that is faster.

    Args:
        part: name of the mixer, for messages.
        dim: channels C of the mixer.
        shape: the heads.
        scale: ``"head"`` divides scores by the root of the width of a head's queries, ``"full"`` by that of C.
        select: a query keeps one in ``select`` of the keys it is offered (masked ones counted); 1 keeps all.
        least: fewest keys kept where that many are offered.
        differential: the difference of two maps from half of every query and key each, with a norm per head after it.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1.
    """

    def __init__(
        self,
        part: str,
        dim: int,
        shape: HeadShape,
        *,
        scale: str = "head",
        select: int = 1,
        least: int = 8,
        differential: bool = False,
        lambda_init: float = 0.5,
    ) -> None:
        super().__init__()
        number = isinstance(lambda_init, int | float) and not isinstance(lambda_init, bool)
        if not number or not 0 <= lambda_init < 1:
            raise ValueError(f"{part}: lambda_init must be at least 0 and below 1, got {lambda_init!r}; try 0.5")
        self.shape, self.lambda_init = shape, lambda_init
        self.differential = yes_or_no(part, "differential", differential)
        self.select = whole_number(part, "select", select)
        self.least = whole_number(part, "least", least)
        self.narrow = shape.qk_dim // 2 if differential else shape.qk_dim
        full = one_of(part, "scale", scale, ("head", "full")) == "full"
        self.scale = (dim if full else self.narrow) ** -0.5
        if differential:
            self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
                nn.Parameter(0.1 * torch.randn(self.narrow)) for _ in range(4)
            )
            self.gain = nn.Parameter(torch.ones(shape.head_dim))

    def forward(
        self,
        q_BHNQ: Tensor,
        k_BHMQ: Tensor,
        v_BHMD: Tensor,
        bias_BHNM: Tensor | None = None,
        *,
        offered: int | None = None,
    ) -> Tensor:
        """(B, H, N, D): the values that every query sees.

        ``bias`` is added to the scores and may broadcast; ``offered`` is how many keys it leaves to a query, for the
        selection to count from: all M if None.
        """
        keys = int(k_BHMQ.shape[-2])
        kept = self.kept(keys if offered is None else offered)
        if bias_BHNM is not None:
            bias_BHNM = bias_BHNM.to(q_BHNQ.dtype)
        width = self.narrow
        if self._written_out(keys, kept) or _slow_to_train(q_BHNQ, keys, bias_BHNM):
            map_BHNM = self._map(q_BHNQ[..., :width], k_BHMQ[..., :width], bias_BHNM, kept)
            if not self.differential:
                return map_BHNM.to(v_BHMD.dtype) @ v_BHMD
            second_BHNM = self._map(q_BHNQ[..., width:], k_BHMQ[..., width:], bias_BHNM, kept)
            difference_BHNM = map_BHNM - self._lambda().to(map_BHNM.dtype) * second_BHNM
            return self._normed(difference_BHNM.to(v_BHMD.dtype) @ v_BHMD)
        if not self.differential:
            return self._fused(q_BHNQ, k_BHMQ, v_BHMD, bias_BHNM)
        first = self._fused(F.pad(q_BHNQ[..., :width], (0, width)), k_BHMQ, v_BHMD, bias_BHNM)
        second = self._fused(F.pad(q_BHNQ[..., width:], (width, 0)), k_BHMQ, v_BHMD, bias_BHNM)
        return self._normed(first - self._lambda().to(second.dtype) * second)

    def grouped(self, q_BGTHQ: Tensor, k_BGMHQ: Tensor, v_BGMHD: Tensor, bias_GHTM: Tensor | None = None) -> Tensor:
        """(B, G, H, T, D): every group of queries sees the keys of its own; ``bias`` may broadcast over G or H."""
        batch, groups, queries, heads, _ = q_BGTHQ.shape
        parts = [part.transpose(2, 3) for part in (q_BGTHQ, k_BGMHQ, v_BGMHD)]
        if bias_GHTM is None or bias_GHTM.shape[0] == 1:
            q, k, v = (part.flatten(0, 1) for part in parts)
            return self(q, k, v, bias_GHTM).unflatten(0, (batch, groups))
        if bias_GHTM.shape[1] == 1:
            q, k, v = (part.transpose(1, 2).flatten(0, 1) for part in parts)
            return self(q, k, v, bias_GHTM.transpose(0, 1)).unflatten(0, (batch, heads)).transpose(1, 2)
        q, k, v = (part.flatten(1, 2) for part in parts)
        bias = bias_GHTM.reshape(1, groups * heads, queries, -1)
        return self(q, k, v, bias).unflatten(1, (groups, heads))

    def kept(self, offered: int) -> int:
        """How many of the keys that a query is offered it reads."""
        return min(offered, max(offered // self.select, self.least))

    def _written_out(self, keys: int, kept: int) -> bool:
        """Whether maps are written out: to select in them, or few enough to be the faster way to unequal widths."""
        unequal = self.differential or self.shape.qk_dim != self.shape.head_dim
        return (self.select > 1 and kept < keys) or (unequal and keys <= 2 * self.shape.head_dim)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Fused products are fast for keys as wide as values and four axes, so that is what they get."""
        missing = v.shape[-1] - q.shape[-1]
        if missing > 0:
            q, k = F.pad(q, (0, missing)), F.pad(k, (0, missing))
        if q.dim() == 4:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.scale)
        if bias is not None:
            bias = bias.expand(*q.shape[:-3], *bias.shape[-3:]).flatten(0, -4)
        flat_q, flat_k, flat_v = (part.flatten(0, -4) for part in (q, k, v))
        y = F.scaled_dot_product_attention(flat_q, flat_k, flat_v, attn_mask=bias, scale=self.scale)
        return y.unflatten(0, q.shape[:-3])

    def _map(self, q_BHNQ: Tensor, k_BHMQ: Tensor, bias_BHNM: Tensor | None, kept: int) -> Tensor:
        """(B, H, N, M): the weights of the keys, zero for those that are not among a query's best."""
        scores = (q_BHNQ * self.scale) @ k_BHMQ.transpose(-1, -2)
        if bias_BHNM is not None:
            scores = scores + bias_BHNM.to(scores.dtype)
        if self.select > 1 and kept < k_BHMQ.shape[-2]:
            last_kept = scores.detach().topk(kept, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
            scores = scores + (scores < last_kept).to(scores.dtype) * MASKED
        return scores.softmax(dim=-1)

    def _lambda(self) -> Tensor:
        """The weight of the subtracted map, in float32."""
        first = (self.lambda_q1.float() * self.lambda_k1.float()).sum().exp()
        second = (self.lambda_q2.float() * self.lambda_k2.float()).sum().exp()
        return first - second + self.lambda_init

    def _normed(self, y_BHND: Tensor) -> Tensor:
        """Root-mean-square norm of every head's values, in float32; not nn.RMSNorm, which older exporters refuse."""
        wide = y_BHND.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + 1e-5) * (1 - self.lambda_init)
        return (wide * scale * self.gain.float()).to(y_BHND.dtype)


def _slow_to_train(q_BHNQ: Tensor, keys: int, bias_BHNM: Tensor | None) -> bool:
    """Whether a fused product on the CPU is to be differentiated that is no faster than maps written out.

    A bias that learns has no fused product, which then writes maps out itself, and more.
    """
    if q_BHNQ.device.type != "cpu" or not (torch.is_grad_enabled() and q_BHNQ.requires_grad):
        return False
    if bias_BHNM is not None and bias_BHNM.requires_grad:
        return True
    return q_BHNQ.dtype in (torch.bfloat16, torch.float16) and keys <= FEW_KEYS


class OffsetTable(nn.Module):
    """A learned number per head for every offset between a query and a key.

    Args:
        window: edge per axis of the widest set of keys: offsets below it in either direction have an entry.
        heads: number of heads.
    """

    def __init__(self, window: tuple[int, ...], heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.table = nn.Parameter(torch.empty(prod(2 * edge - 1 for edge in window), heads))
        nn.init.normal_(self.table, std=0.02)

    def forward(self, offsets: Sequence[Tensor]) -> Tensor:
        """(H, T, M): the entries for ``offsets``, per axis (T_axis, M_axis) query less key; T and M are their products.

        Looked up axis by axis, which needs no index as large as the result.
        """
        dims = len(self.window)
        bias = self.table.T.reshape(self.heads, *[2 * edge - 1 for edge in self.window])
        shape = []
        for axis, (edge, offset_TM) in enumerate(zip(self.window, offsets, strict=True), start=1):
            bias = bias.index_select(axis, (offset_TM + (edge - 1)).reshape(-1))
            shape += [int(length) for length in offset_TM.shape]
        order = (0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2))
        return bias.reshape(self.heads, *shape).permute(order).reshape(self.heads, prod(shape[::2]), prod(shape[1::2]))
