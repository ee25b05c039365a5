"""Mask decoder: a token per class attends to the map, and each becomes the filter that draws its class.

Source: the efficient cascaded mask decoder of HRMedSeg (arXiv:2504.06205), which is the mask decoder of SAM
(Kirillov et al. 2023, arXiv:2304.02643, appendix A) with a narrow MLP: two-way transformer, two transposed convolutions
to a fourfold map, and a hyper-network from token to filter.  What differs: no prompts; one token per class (the
release draws three masks, all from the first token, and shows one); images go through together; the constant that SAM
adds to the map for "no mask given" is the last bias of the neck; the map is not enlarged beyond the image; what
happens at the size of the last stage stays in single precision, because an error there moves whole masks.

Shapes: B batch, C channels, S spatial axes, N positions, T tokens, K outputs, H heads, D width of a head.
"""

from __future__ import annotations

from itertools import pairwise
from math import lcm, pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import Up, doubled, resize
from medsearch.blocks.knobs import whole_number
from medsearch.blocks.nd import CONV, to_first, to_last, without_autocast


class Attention(nn.Module):
    """Softmax attention from one set of vectors to another, with an inner width of its own."""

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(dim, inner) for _ in range(3))
        self.out = nn.Linear(inner, dim)

    def forward(self, q_BTC: Tensor, k_BNC: Tensor, v_BNC: Tensor) -> Tensor:
        pairs = ((self.q, q_BTC), (self.k, k_BNC), (self.v, v_BNC))
        q, k, v = (make(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for make, x in pairs)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Tokens attend to each other and to the map, pass an MLP, and the map attends to them."""

    def __init__(self, dim: int, *, heads: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.own = Attention(dim, dim, heads)
        self.look = Attention(dim, dim // 2, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.tell = Attention(dim, dim // 2, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))

    def forward(self, t_BTC: Tensor, x_BNC: Tensor, start_BTC: Tensor, place_1NC: Tensor) -> tuple[Tensor, Tensor]:
        q_BTC = t_BTC if self.first else t_BTC + start_BTC
        seen_BTC = self.own(q_BTC, q_BTC, t_BTC)
        t_BTC = self.norms[0](seen_BTC if self.first else t_BTC + seen_BTC)
        t_BTC = self.norms[1](t_BTC + self.look(t_BTC + start_BTC, x_BNC + place_1NC, x_BNC))
        t_BTC = self.norms[2](t_BTC + self.mlp(t_BTC))
        return t_BTC, self.norms[3](x_BNC + self.tell(x_BNC + place_1NC, t_BTC + start_BTC, t_BTC))


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every position of (B, C, *S)."""

    def forward(self, x_BCS: Tensor) -> Tensor:
        return to_first(super().forward(to_last(x_BCS)))


@HEADS.add("mask_token")
class MaskTokenHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S); only the last stage is read.

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        dim: channels of the decoder, a multiple of 8 and of twice ``heads``; the sources have 256.
        depth: two-way blocks.
        heads: heads of every attention; the sources have 8.
        registers: tokens that draw nothing but take part; SAM has one, for the quality of the mask.

    Cost per position of the last stage, in multiply-adds: (C + 3^dims * dim) * dim for the neck, (2 * depth + 1) *
    (dim + tokens) * dim for attention, 2^dims * dim^2 / 4 + 4^dims * dim^2 / 32 for the transposed convolutions.
    """

    TASKS = ("segmentation", "denoising")

    frequency_SC: Tensor

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        dims: int,
        outputs: int,
        dim: int = 64,
        depth: int = 2,
        heads: int = 4,
        registers: int = 1,
    ) -> None:
        super().__init__()
        whole_number("mask_token", "dim", dim)
        whole_number("mask_token", "depth", depth)
        whole_number("mask_token", "heads", heads)
        self.registers = whole_number("mask_token", "registers", registers, least=0)
        step = lcm(8, 2 * heads)
        if dim % step:
            nearest = max(1, round(dim / step)) * step
            raise ValueError(
                f"mask_token: dim must be a multiple of 8 and of twice heads {heads}, got {dim}; try {nearest}"
            )
        self.neck = nn.Sequential(
            CONV[dims](widths[-1], dim, 1, bias=False),
            ChannelNorm(dim, eps=1e-6),
            CONV[dims](dim, dim, 3, padding=1, bias=False),
            ChannelNorm(dim, eps=1e-6),
        )
        self.register_buffer("frequency_SC", torch.randn(dims, dim // 2))
        self.tokens_TC = nn.Parameter(torch.randn(registers + outputs, dim))
        self.blocks = nn.ModuleList(TwoWayBlock(dim, heads=heads, first=index == 0) for index in range(depth))
        self.look = Attention(dim, dim // 2, heads)
        self.norm = nn.LayerNorm(dim)
        self.ups = nn.ModuleList(
            Up("mask_token", a, b, dims=dims, up="transpose") for a, b in pairwise((dim, dim // 4, dim // 8))
        )
        self.up_norm = ChannelNorm(dim // 4, eps=1e-6)
        self.act = nn.GELU()
        self.hyper = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim // 8))
            for _ in range(outputs)
        )

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        image = tuple(image_BCS.shape[2:])
        with without_autocast(image_BCS.device):
            x_BSC = to_last(self.neck(features[-1].to(self.tokens_TC.dtype)))
            size = tuple(x_BSC.shape[1:-1])
            t_BTC, x_BNC = self._exchanged(x_BSC.flatten(1, -2), self._place(size))
            filters = [draw(t_BTC[:, self.registers + index]) for index, draw in enumerate(self.hyper)]
        size = doubled(size, image)
        x_BCS = self.act(self.up_norm(self.ups[0](to_first(x_BNC.reshape(x_BSC.shape)), size)))
        size = doubled(size, image)
        x_BCS = self.act(self.ups[1](x_BCS, size))
        masks_BKN = torch.stack(filters, dim=1) @ x_BCS.flatten(2)
        return resize(masks_BKN.reshape(*masks_BKN.shape[:2], *size), image)

    def _place(self, size: tuple[int, ...]) -> Tensor:
        """(1, N, C): sines and cosines of random frequencies at every position, in any precision of the features."""
        angle: Tensor = torch.zeros((), dtype=self.frequency_SC.dtype, device=self.frequency_SC.device)
        for axis, length in enumerate(size):
            at_L = (torch.arange(length, dtype=angle.dtype, device=angle.device) + 0.5) * (2 / length) - 1
            after = (1,) * (len(size) - axis)
            angle = angle + at_L.reshape(-1, *after) * self.frequency_SC[axis] * (2 * pi)
        return torch.cat([angle.sin(), angle.cos()], dim=-1).flatten(0, -2).unsqueeze(0)

    def _exchanged(self, x_BNC: Tensor, place_1NC: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and map after they have attended to each other."""
        start_BTC = self.tokens_TC.repeat(x_BNC.shape[0], 1, 1)
        t_BTC = start_BTC
        for block in self.blocks:
            t_BTC, x_BNC = block(t_BTC, x_BNC, start_BTC, place_1NC)
        seen_BTC = self.look(t_BTC + start_BTC, x_BNC + place_1NC, x_BNC)
        return self.norm(t_BTC + seen_BTC), x_BNC
