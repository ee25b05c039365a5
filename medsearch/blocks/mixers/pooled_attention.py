"""Pooled attention: every position reads a smaller map, each of whose entries stands for a window of the input.

Source: by ``op``, "conv" PVT (Wang et al. 2021, arXiv:2102.12122, eq. 3-4; SegFormer3D, arXiv:2404.10156, in 3D), whose
convolution has a kernel as wide as its stride and a LayerNorm after it; "dwconv" CvT (Wu et al. 2021, arXiv:2103.15808,
section 3.2), a strided depthwise convolution with BatchNorm for keys and for values, and one of stride 1 for queries;
"mean" the windows of DCAU-Net (arXiv:2603.09530, of which no code is public) with a LayerNorm of ours after it; "dct"
the low frequencies of an orthogonal DCT-II, brought back to a smaller grid, with the same LayerNorm (in place of the
mean, ours).  What differs: a depthwise convolution of the normed input, added to the result, tells positions apart;
``local=0`` is the sources' form.  At the far border a mean is over the positions there are, a convolution sees zeros.
Shapes: B batch, C channels, S spatial axes, N positions, M windows, H heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, pi, prod

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import Projections, SoftmaxProduct, attention_heads
from medsearch.blocks.groups import Group
from medsearch.blocks.knobs import one_of, per_axis
from medsearch.blocks.nd import (
    BATCH_NORM,
    CONV,
    depthwise,
    local_filter,
    pad_to_multiple,
    real_tokens,
    split_blocks,
    to_first,
    to_last,
)


@MIXERS.add("pooled_attention")
class PooledAttention(nn.Module):
    """Let every position read summaries of all windows.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        pool: edge of a window in positions, or one per axis like ``"1x2x2"``.
        op: how a window becomes a key and a value: ``"mean"``, ``"conv"``, ``"dwconv"`` or ``"dct"``.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        qk_dim: width of a head's queries and keys; None gives them ``head_dim``.
        bias: whether queries, keys and values have a bias.
        scale: ``"head"`` divides scores by the root of the width of a head's queries, ``"full"`` by that of C.
        select: a query keeps one in ``select`` of the windows; 1 keeps all.
        least: fewest windows kept.
        differential: the difference of two maps of half the width each, as in Differential Transformer.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1; the source sets 0.2 to 0.8 by depth.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of a depthwise window on the normed input, added to the result; odd, 0 for none.

    Cost, with inner = heads * head_dim and p = pool^dims: ((2 + 2 / p) * C + 2 * N / p) * inner + local^dims * C
    multiply-adds per position; a gate adds C * inner, and per position "conv" C^2, "dwconv" (1 + 2 / p) * 3^dims * C.
    """

    FAMILY = "pooled_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        pool: int | str = 4,
        op: str = "mean",
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
        local: int = 3,
    ) -> None:
        super().__init__()
        part = "pooled_attention"
        shape = attention_heads(part, dim, heads, head_dim, qk_dim, differential=differential)
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=gate)
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
        window = per_axis(part, "pool", pool, dims)
        self.pool = _POOLS[one_of(part, "op", op, tuple(_POOLS))](dim, window)
        self.local = local_filter(part, dim, dims, local)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BSC = self.project.norm(to_last(x_BCS))
        parts = self.project(*self.pool(x_BSC))
        q_BHNQ, k_BHMQ, v_BHMD = (part.flatten(1, -3).transpose(1, 2) for part in parts)
        y_BNHD = self.product(q_BHNQ, k_BHMQ, v_BHMD).transpose(1, 2)
        y_BSC = self.project.leave(y_BNHD.reshape(*x_BSC.shape[:-1], self.project.shape.inner), x_BSC)
        if self.local is not None:
            y_BSC = y_BSC + to_last(depthwise(self.local, to_first(x_BSC)))
        return to_first(y_BSC)

    def groups(self) -> dict[str, Group]:
        """The heads; windows and local filters are on the input and stay."""
        return {"heads": self.project.group("project")}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many windows a query reads on a map of ``size``."""
        return self.product.kept(prod(self.pool.reduced(size)))


class _Pool(nn.Module):
    """A map of normed channels to what queries, keys and, where they differ from keys, values are made from."""

    def __init__(self, window: tuple[int, ...]) -> None:
        super().__init__()
        self.window = window

    def reduced(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Windows per axis of a map of ``size``."""
        return tuple(ceil(length / edge) for length, edge in zip(size, self.window, strict=True))


class _Mean(_Pool):
    """The mean of every window over the positions it has, normed."""

    def __init__(self, dim: int, window: tuple[int, ...]) -> None:
        super().__init__(window)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BSC: Tensor) -> tuple[Tensor, Tensor]:
        size = tuple(int(length) for length in x_BSC.shape[1:-1])
        window = tuple(min(edge, length) for edge, length in zip(self.window, size, strict=True))
        mean_BMC = split_blocks(pad_to_multiple(x_BSC, window), window).mean(dim=2)
        if any(length % edge for length, edge in zip(size, window, strict=True)):
            mean_BMC = mean_BMC / real_tokens(size, window, mean_BMC).mean(dim=1).unsqueeze(-1)
        return x_BSC, self.norm(mean_BMC)


class _Conv(_Pool):
    """A convolution as wide as its stride, normed."""

    def __init__(self, dim: int, window: tuple[int, ...]) -> None:
        super().__init__(window)
        conv: Callable[..., nn.Conv2d | nn.Conv3d] = CONV[len(window)]
        self.filter = conv(dim, dim, window, stride=window)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BSC: Tensor) -> tuple[Tensor, Tensor]:
        return x_BSC, self.norm(to_last(self.filter(to_first(pad_to_multiple(x_BSC, self.window)))))


class _DepthwiseConv(_Pool):
    """Depthwise convolutions with BatchNorm: one for queries, and strided ones for keys and for values.

    Their edge is 3, as in CvT, or the odd number from the stride on where neighbouring windows would not meet.
    """

    def __init__(self, dim: int, window: tuple[int, ...]) -> None:
        super().__init__(window)
        dims = len(window)
        self.kernel = tuple(max(3, edge + 1 - edge % 2) for edge in window)
        self.q = _Filter(dim, (3,) * dims, (1,) * dims)
        self.k = _Filter(dim, self.kernel, window)
        self.v = _Filter(dim, self.kernel, window)

    def forward(self, x_BSC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_BCS = to_first(x_BSC)
        return to_last(self.q(x_BCS)), to_last(self.k(x_BCS)), to_last(self.v(x_BCS))


class _Filter(nn.Module):
    """A depthwise convolution and its BatchNorm."""

    def __init__(self, dim: int, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
        super().__init__()
        conv: Callable[..., nn.Conv2d | nn.Conv3d] = CONV[len(kernel)]
        half = tuple(edge // 2 for edge in kernel)
        self.conv = conv(dim, dim, kernel, stride=stride, padding=half, groups=dim, bias=False)
        self.norm = BATCH_NORM[len(kernel)](dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.norm(depthwise(self.conv, x_BCS))


class _Dct(_Pool):
    """The lowest frequencies of every axis on the grid that just holds them, normed."""

    def __init__(self, dim: int, window: tuple[int, ...]) -> None:
        super().__init__(window)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BSC: Tensor) -> tuple[Tensor, Tensor]:
        size = tuple(int(length) for length in x_BSC.shape[1:-1])
        low_BSC = x_BSC
        for axis, (length, kept) in enumerate(zip(size, self.reduced(size), strict=True), start=1):
            if kept < length:
                rows = low_BSC.flatten(axis + 1).flatten(0, axis - 1)
                low = _low_pass(length, kept, x_BSC) @ rows
                low_BSC = low.reshape(*low_BSC.shape[:axis], kept, *low_BSC.shape[axis + 1 :])
        return x_BSC, self.norm(low_BSC)


_POOLS: dict[str, type[_Mean] | type[_Conv] | type[_DepthwiseConv] | type[_Dct]] = {
    "mean": _Mean,
    "conv": _Conv,
    "dwconv": _DepthwiseConv,
    "dct": _Dct,
}


def _low_pass(length: int, kept: int, like: Tensor) -> Tensor:
    """(kept, length): the first ``kept`` coefficients of a DCT-II, and an inverse of that length, which keeps means."""
    scale = (kept / length) ** 0.5
    return scale * _dct(kept, kept, like).T @ _dct(length, kept, like)


def _dct(length: int, kept: int, like: Tensor) -> Tensor:
    """(kept, length): the first rows of the orthogonal DCT-II; angles are reduced before they are rounded."""
    k, i = torch.arange(kept, device=like.device), torch.arange(length, device=like.device)
    turns = (k.unsqueeze(1) * (2 * i + 1)) % (4 * length)
    weight = torch.where(k == 0, 1.0, 2.0**0.5).unsqueeze(1) / length**0.5
    return (weight * (turns.to(weight.dtype) * (pi / (2 * length))).cos()).to(like.dtype)
