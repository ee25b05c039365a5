"""Differential attention: the difference of two softmax maps, over keys that each stand for a window of the map.

Source: Differential Transformer (Ye et al. 2024, arXiv:2410.05258, eq. 1-3): per head (softmax(q1 k1^T / sqrt(D/2)) -
lambda softmax(q2 k2^T / sqrt(D/2))) v, RMS-normalised, times (1 - lambda_init); no biases.  What differs: keys and
values come from the mean of every window, as proposed by DCAU-Net (of which no code is public), with a LayerNorm of
ours after it; and a depthwise convolution of the normed input, added to the result, tells positions apart.
Shapes: B batch, C channels, S spatial axes, N positions, M windows, H heads, D width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.nd import (
    head_shape,
    local_filter,
    pad_to_multiple,
    real_tokens,
    split_blocks,
    to_first,
    to_last,
    whole_number,
)


@MIXERS.add("differential_attention")
class DifferentialAttention(nn.Module):
    """Let every position weigh window summaries by what two attention maps disagree on.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        pool: edge of a summary window in positions; at the far border a window averages the positions it has.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1; the source sets 0.2 to 0.8 by depth.
        heads: number of differential heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head's values, even: queries and keys are two of half of it.
        local: edge of the depthwise window on the normed input; odd, 0 for none.

    Cost, with inner = heads * head_dim and p = pool^dims: (2 + 2 / p) * C * inner + 4 * N / p * inner + local^dims * C
    multiply-adds per position (a quarter of the third term multiplies zeros).
    """

    FAMILY = "differential_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        pool: int = 4,
        lambda_init: float = 0.5,
        heads: int | None = None,
        head_dim: int = 32,
        local: int = 3,
    ) -> None:
        super().__init__()
        part = "differential_attention"
        self.pool = whole_number(part, "pool", pool)
        if not isinstance(lambda_init, int | float) or not 0 <= lambda_init < 1:
            raise ValueError(f"{part}: lambda_init must be at least 0 and below 1, got {lambda_init!r}; try 0.5")
        self.heads, self.head_dim = head_shape(part, max(2, dim - dim % 2), heads, head_dim)
        if self.head_dim % 2:
            raise ValueError(f"{part}: head_dim must be even, got {head_dim}; try {head_dim + 1}")
        inner = self.heads * self.head_dim
        self.lambda_init = lambda_init
        self.norm = nn.LayerNorm(dim)
        self.pool_norm = nn.LayerNorm(dim)
        self.q = nn.Linear(dim, inner, bias=False)
        self.kv = nn.Linear(dim, 2 * inner, bias=False)
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(0.1 * torch.randn(self.head_dim // 2)) for _ in range(4)
        )
        self.gain = nn.Parameter(torch.ones(self.head_dim))
        self.local = local_filter(part, dim, dims, local)
        self.proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x_BCS: Tensor) -> Tensor:
        batch, size = x_BCS.shape[0], x_BCS.shape[2:]
        x_BSC = self.norm(to_last(x_BCS))
        k_BMC, v_BMC = self.kv(self.pool_norm(self._summaries(x_BSC))).chunk(2, dim=-1)
        q_BHND, k_BHMD, v_BHMD = (
            part.reshape(batch, -1, self.heads, self.head_dim).transpose(1, 2) for part in (self.q(x_BSC), k_BMC, v_BMC)
        )
        y_BHND = self._normed(self._difference(q_BHND, k_BHMD, v_BHMD))
        y_BNHD = y_BHND.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        y_BSC = self.proj(y_BNHD.reshape(batch, *size, -1))
        if self.local is not None:
            y_BSC = y_BSC + to_last(self.local(to_first(x_BSC)))
        return to_first(y_BSC)

    def groups(self) -> dict[str, Group]:
        """The heads; the local filters are on the input and stay."""
        made = (Axis("q", unit=self.head_dim), Axis("kv", unit=self.head_dim, repeats=2))
        return {"heads": Group(made, Axis("proj.weight", 1, unit=self.head_dim))}

    def _summaries(self, x_BSC: Tensor) -> Tensor:
        """(B, M, C): the mean of every window over the positions it has."""
        size = tuple(int(length) for length in x_BSC.shape[1:-1])
        window = tuple(min(self.pool, length) for length in size)
        mean_BMC = split_blocks(pad_to_multiple(x_BSC, window), window).mean(dim=2)
        if not any(length % edge for length, edge in zip(size, window, strict=True)):
            return mean_BMC
        return mean_BMC / real_tokens(size, window, mean_BMC).mean(dim=1).unsqueeze(-1)

    def _difference(self, q_BHND: Tensor, k_BHMD: Tensor, v_BHMD: Tensor) -> Tensor:
        """Both maps in full width, the other half of the query zero: fused attention wants keys and values alike."""
        half = self.head_dim // 2
        q1_BHND, q2_BHND = F.pad(q_BHND[..., :half], (0, half)), F.pad(q_BHND[..., half:], (half, 0))
        seen_BHND = F.scaled_dot_product_attention(q1_BHND, k_BHMD, v_BHMD, scale=half**-0.5)
        common_BHND = F.scaled_dot_product_attention(q2_BHND, k_BHMD, v_BHMD, scale=half**-0.5)
        return seen_BHND - self._lambda().to(common_BHND.dtype) * common_BHND

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
