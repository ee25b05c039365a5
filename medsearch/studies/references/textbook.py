"""Token mixers as their papers print them, for those that no package brings: the plain form that ours has to beat.

Each takes our mixer, whose weights it uses, and computes the same; nothing is tuned, nothing avoided that the equation
or its authors' code has.  Norms in front, which no paper means by its operator, are those of the mixer.
Shapes: B batch, C channels, S spatial axes, N positions, W windows, T positions of a window, H heads, D width of a
head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks.nd import CONV, to_first, to_last

Size = tuple[int, ...]


def stacked(*layers: nn.Linear) -> nn.Linear:
    """One layer with the outputs of several beside each other."""
    whole = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers))
    with torch.no_grad():
        whole.weight.copy_(torch.cat([layer.weight for layer in layers]))
        whole.bias.copy_(torch.cat([layer.bias for layer in layers]))
    return whole


def windows(x_BSC: Tensor, edges: Size, *, grid: bool = False) -> Tensor:
    """(B * W, T, C): neighbours together, or with ``grid`` what is equally far apart, as Swin and MaxViT print it."""
    batch, *size, channels = x_BSC.shape
    pairs = [
        (edge, length // edge) if grid else (length // edge, edge) for length, edge in zip(size, edges, strict=True)
    ]
    first, last = (range(2, 2 * len(size) + 1, 2), range(1, 2 * len(size), 2))
    order = (0, *(first if grid else last), *(last if grid else first), 2 * len(size) + 1)
    split = x_BSC.reshape(batch, *(part for pair in pairs for part in pair), channels)
    return split.permute(order).contiguous().view(-1, prod(edges), channels)


def joined(y_WTC: Tensor, edges: Size, size: Size, *, grid: bool = False) -> Tensor:
    """(B, *S, C): the inverse of :func:`windows`."""
    counts = [length // edge for length, edge in zip(size, edges, strict=True)]
    dims = len(size)
    split = y_WTC.reshape(-1, *counts, *edges, y_WTC.shape[-1])
    order = [0]
    for axis in range(1, dims + 1):
        order += [axis + dims, axis] if grid else [axis, axis + dims]
    return split.permute(*order, 2 * dims + 1).contiguous().view(-1, *size, y_WTC.shape[-1])


class _Attention(nn.Module, ABC):
    """Queries, keys and values of all positions from one layer, and the projection out."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.size, (self.heads, self.width, _) = size, ours.project.shape
        self.norm, self.proj = ours.project.norm, ours.project.out
        self.qkv = stacked(ours.project.q, ours.project.k, ours.project.v)
        self.local = ours.project.local

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BNC = self.norm(to_last(x_BCS).flatten(1, -2))
        q, k, v = self.qkv(x_BNC).reshape(*x_BNC.shape[:2], 3, self.heads, self.width).unbind(2)
        y_BNC = self.mix(q, k, v).flatten(2)
        if self.local is not None:
            y_BNC = y_BNC + self.local(v.flatten(2).transpose(1, 2).unflatten(2, self.size)).flatten(2).transpose(1, 2)
        return self.proj(self.leave(y_BNC, x_BNC)).transpose(1, 2).reshape(x_BCS.shape)

    def leave(self, y_BNC: Tensor, x_BNC: Tensor) -> Tensor:
        return y_BNC

    @abstractmethod
    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        """(B, N, H, D): what every position reads of all."""


class LinearAttention(_Attention):
    """Katharopoulos et al. 2020 (arXiv:2006.16236), eq. 7: phi(q) sum(phi(k) v^T) / (phi(q) . sum(phi(k)))."""

    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        q, k = F.elu(q_BNHD) + 1, F.elu(k_BNHD) + 1
        summary_BHDE = torch.einsum("bnhd,bnhe->bhde", k, v_BNHD)
        weight_BNH = 1 / (torch.einsum("bnhd,bhd->bnh", q, k.sum(1)) + 1e-6)
        return torch.einsum("bnhd,bhde,bnh->bnhe", q, summary_BHDE, weight_BNH)


class EfficientAttention(_Attention):
    """Shen et al. 2018 (arXiv:1812.01243), eq. 3: softmax(q) over channels times softmax(k)^T v over positions."""

    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        context_BHDE = torch.einsum("bnhd,bnhe->bhde", k_BNHD.softmax(1), v_BNHD)
        return torch.einsum("bnhd,bhde->bnhe", q_BNHD.softmax(-1), context_BHDE)


class DifferentialAttention(_Attention):
    """Ye et al. 2024 (arXiv:2410.05258), eq. 1-3, as its authors' simple form has it: both maps written out."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__(ours, size)
        self.product = ours.product

    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        batch, count = q_BNHD.shape[:2]
        q, k = (part.reshape(batch, count, 2 * self.heads, -1).transpose(1, 2) for part in (q_BNHD, k_BNHD))
        maps = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1, dtype=torch.float32).to(v_BNHD)
        own = self.product
        one = torch.exp(torch.sum(own.lambda_q1 * own.lambda_k1))
        other = torch.exp(torch.sum(own.lambda_q2 * own.lambda_k2))
        maps_BHNM2 = maps.view(batch, self.heads, 2, count, count)
        mixed = (maps_BHNM2[:, :, 0] - (one - other + own.lambda_init) * maps_BHNM2[:, :, 1]) @ v_BNHD.transpose(1, 2)
        scale = torch.rsqrt(mixed.float().pow(2).mean(-1, keepdim=True) + 1e-5)
        return ((mixed * scale * own.gain) * (1 - own.lambda_init)).transpose(1, 2)


class Retention(_Attention):
    """Sun et al. 2023 (arXiv:2307.08621), eq. 5 and 8, over distances of all axes: (q k^T * decay) v, norm, gate."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__(ours, size)
        self.gate, self.gain, self.offset = ours.project.gate, ours.gain, ours.offset
        for axis, decay_HLL in enumerate(self.decays(1 - 0.5**ours.step_H, size)):
            self.register_buffer(f"decay_{axis}", decay_HLL)

    def decays(self, rate_H: Tensor, size: Size) -> list[Tensor]:
        """What is left from position to position, rows summing to 1 as in the authors' normalised form."""
        places_NS = torch.cartesian_prod(*map(torch.arange, size)).reshape(prod(size), len(size))
        return [_faded(rate_H, (places_NS[:, None] - places_NS).abs().sum(-1))]

    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        scores = torch.einsum("bnhd,bmhd->bhnm", q_BNHD * self.width**-0.5, k_BNHD) * self.get_buffer("decay_0")
        return self.normed(torch.einsum("bhnm,bmhd->bnhd", scores, v_BNHD))

    def normed(self, y_BNHD: Tensor) -> Tensor:
        y_BNC = F.layer_norm(y_BNHD, (self.width,)).flatten(2)
        return (y_BNC * self.gain + self.offset).unflatten(2, (self.heads, self.width))

    def leave(self, y_BNC: Tensor, x_BNC: Tensor) -> Tensor:
        return y_BNC * F.silu(self.gate(x_BNC))


class AxialRetention(Retention):
    """Fan et al. 2023 (arXiv:2309.11523), eq. 7, without its softmax: one axis after the other, the last one first."""

    _SUMS = {
        2: ("bxyhd,bxzhd->bxhyz", "bxhyz,bxzhd->bxyhd", "bxyhd,bzyhd->byhxz", "byhxz,bzyhd->bxyhd"),
        3: (
            *("bxyzhd,bxywhd->bxyhzw", "bxyhzw,bxywhd->bxyzhd", "bxyzhd,bxwzhd->bxzhyw", "bxzhyw,bxwzhd->bxyzhd"),
            *("bxyzhd,bwyzhd->byzhxw", "byzhxw,bwyzhd->bxyzhd"),
        ),
    }

    def decays(self, rate_H: Tensor, size: Size) -> list[Tensor]:
        return [_faded(rate_H, (torch.arange(length)[:, None] - torch.arange(length)).abs()) for length in size]

    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        q, k, v = (part.unflatten(1, self.size) for part in (q_BNHD * self.width**-0.5, k_BNHD, v_BNHD))
        sums = self._SUMS[len(self.size)]
        for step, axis in enumerate(reversed(range(len(self.size)))):
            scores = torch.einsum(sums[2 * step], q, k) * self.get_buffer(f"decay_{axis}")
            v = torch.einsum(sums[2 * step + 1], scores, v)
        return self.normed(v.flatten(1, len(self.size)))


def _faded(rate_H: Tensor, distance_NN: Tensor) -> Tensor:
    decay_HNN = rate_H.reshape(-1, 1, 1) ** distance_NN
    return decay_HNN / decay_HNN.sum(-1, keepdim=True)


class NeighbourhoodAttention(_Attention):
    """Hassani et al. 2023 (arXiv:2204.07143), eq. 1-4: every query with its own kernel^D gathered keys."""

    keys_NK: Tensor
    offsets_NK: Tensor

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__(ours, size)
        self.table = ours.position.table
        axes = [_near(length, edge) for length, edge in zip(size, ours.kernel, strict=True)]
        keys = offsets = torch.zeros(1, 1, dtype=torch.int64)
        for length, edge, (key_LK, offset_LK) in zip(size, ours.kernel, axes, strict=True):
            keys = (keys[:, None, :, None] * length + key_LK[None, :, None]).flatten(2).flatten(0, 1)
            offsets = (offsets[:, None, :, None] * (2 * edge - 1) + offset_LK[None, :, None]).flatten(2).flatten(0, 1)
        self.register_buffer("keys_NK", keys)
        self.register_buffer("offsets_NK", offsets)

    def mix(self, q_BNHD: Tensor, k_BNHD: Tensor, v_BNHD: Tensor) -> Tensor:
        k, v = (part[:, self.keys_NK.flatten()].unflatten(1, self.keys_NK.shape) for part in (k_BNHD, v_BNHD))
        bias_NHK = self.table[self.offsets_NK.flatten()].unflatten(0, self.offsets_NK.shape).transpose(1, 2)
        scores = torch.einsum("bnhd,bnkhd->bnhk", q_BNHD * self.width**-0.5, k) + bias_NHK
        return torch.einsum("bnhk,bnkhd->bnhd", scores.softmax(-1), v)


def _near(length: int, edge: int) -> tuple[Tensor, Tensor]:
    """(L, K): the keys of every position of an axis, and which entry of a table their offset has."""
    place_L = torch.arange(length)
    key_LK = (place_L - edge // 2).clamp(0, length - edge)[:, None] + torch.arange(edge)
    return key_LK, place_L[:, None] - key_LK + edge - 1


class RegionAttention(nn.Module):
    """Zhu et al. 2023 (arXiv:2303.08810), eq. 3-6: regions route by their means, keys of the best ones are gathered."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.size, self.top, self.scale = size, ours.top_regions, ours.project.dim**-0.5
        self.edges = tuple(length // count for length, count in zip(size, ours.regions, strict=True))
        self.heads, self.norm, self.proj = ours.project.shape.heads, ours.project.norm, ours.project.out
        self.qkv, self.local = stacked(ours.project.q, ours.project.k, ours.project.v), ours.project.local

    def forward(self, x_BCS: Tensor) -> Tensor:
        batch, channels = x_BCS.shape[:2]
        x_BSC = self.norm(to_last(x_BCS))
        q, kv = self.qkv(windows(x_BSC, self.edges)).split((channels, 2 * channels), dim=-1)
        q, kv = q.unflatten(0, (batch, -1)), kv.unflatten(0, (batch, -1))
        affinity_BRR = q.mean(2) @ kv[..., :channels].mean(2).transpose(1, 2)
        top_BRK = affinity_BRR.detach().topk(self.top, dim=-1).indices
        spread = kv.unsqueeze(1).expand(-1, kv.shape[1], -1, -1, -1)
        index = top_BRK[..., None, None].expand(-1, -1, -1, *kv.shape[2:])
        chosen = torch.gather(spread, 2, index).flatten(2, 3)
        k, v = (part.unflatten(-1, (self.heads, -1)) for part in chosen.chunk(2, dim=-1))
        scores = torch.einsum("brthd,brkhd->brhtk", q.unflatten(-1, (self.heads, -1)) * self.scale, k)
        y = torch.einsum("brhtk,brkhd->brthd", scores.softmax(-1), v).flatten(3).flatten(0, 1)
        y_BSC = joined(y, self.edges, self.size)
        if self.local is not None:
            v_BSC = joined(kv[..., channels:].flatten(0, 1), self.edges, self.size)
            y_BSC = y_BSC + to_last(self.local(to_first(v_BSC)))
        return to_first(self.proj(y_BSC))


class PooledAttention(nn.Module):
    """Wang et al. 2021 (arXiv:2102.12122), eq. 3-4, in 3D as SegFormer3D has it: keys from a strided convolution."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.heads, self.norm, self.proj = ours.project.shape.heads, ours.project.norm, ours.project.out
        self.q, self.kv = ours.project.q, stacked(ours.project.k, ours.project.v)
        self.sr, self.sr_norm = ours.pool.filter, ours.pool.norm

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BNC = self.norm(to_last(x_BCS).flatten(1, -2))
        reduced = self.sr(x_BNC.transpose(1, 2).reshape(x_BCS.shape)).flatten(2).transpose(1, 2)
        k, v = self.kv(self.sr_norm(reduced)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = self.q(x_BNC).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        y_BNC = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.proj(y_BNC).transpose(1, 2).reshape(x_BCS.shape)


class MultiscaleLinearAttention(nn.Module):
    """Lan et al. 2025 (arXiv:2505.18823): group after group of channels, filtered, through one linear attention."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.heads, self.norm, self.join, self.share = ours.heads, ours.norm, ours.join, ours.share
        self.filters = nn.ModuleList(scale.filter for scale in ours.scales)
        self.qkv, self.proj = ours.qkv, ours.proj

    def forward(self, x_BCS: Tensor) -> Tensor:
        groups = to_first(self.norm(to_last(x_BCS))).chunk(len(self.filters), dim=1)
        seen = [self.one(F.relu(keep(group) + group)) for keep, group in zip(self.filters, groups, strict=True)]
        y_BNC = self.join(torch.cat([part * self.share[i] for i, part in enumerate(seen)], dim=-1))
        return y_BNC.transpose(1, 2).reshape(x_BCS.shape)

    def one(self, x_BWS: Tensor) -> Tensor:
        q, k, v = self.qkv(x_BWS.flatten(2).transpose(1, 2)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        context = torch.einsum("bnhd,bnhe->bhde", k.softmax(-1), v)
        return self.proj(torch.einsum("bnhd,bhde->bnhe", q.softmax(1), context).flatten(2))


class GatedRecursiveConv(nn.Module):
    """Rao et al. 2022 (arXiv:2207.14284), eqs. 3 to 6, every matrix a 1 x 1 convolution as in its listing."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.norm, self.widths, self.scale = ours.norm, ours.widths, ours.factor
        self.proj_in = CONV[len(size)](ours.dim, ours.split.out_features, 1)
        with torch.no_grad():
            for weight, own in zip(self.proj_in.parameters(), ours.split.parameters(), strict=True):
                weight.copy_(own.reshape(weight.shape))
        self.dwconv, self.pws, self.proj_out = ours.filter, ours.widen, ours.project

    def forward(self, x_BCS: Tensor) -> Tensor:
        fused = self.proj_in(to_first(self.norm(to_last(x_BCS))))
        p, q = torch.split(fused, [self.widths[0], sum(self.widths)], dim=1)
        first, *gates = torch.split(self.dwconv(q) * self.scale, self.widths, dim=1)
        p = p * first
        for widen, gate in zip(self.pws, gates, strict=True):
            p = widen(p) * gate
        return self.proj_out(p)


class Hyena(nn.Module):
    """Poli et al. 2023 (arXiv:2302.10866), section 3.3: long convolutions by Fourier transforms of twice the length."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.size, self.dim = size, ours.dim
        self.norm, self.streams, self.near, self.filters = ours.norm, ours.streams, ours.near, ours.filters
        self.keep_OC, self.project = ours.keep_OC, ours.project

    def forward(self, x_BCS: Tensor) -> Tensor:
        z, *gates = self.near(to_first(self.streams(self.norm(to_last(x_BCS))))).split(self.dim, dim=1)
        along = [filters(length) for filters, length in zip(self.filters, self.size, strict=True)]
        for step, gate in enumerate(gates):
            keep = self.keep_OC[step].reshape(-1, *[1] * len(self.size))
            y = z.float()
            for axis, (length, filter_OCP) in enumerate(zip(self.size, along, strict=True), start=2):
                y = _long_conv(y, filter_OCP[step].float(), axis, length)
            z = gate * (y + keep * z)
        return to_first(self.project(to_last(z)))


def _long_conv(x_BCS: Tensor, filter_CP: Tensor, axis: int, length: int) -> Tensor:
    """One axis convolved with a filter whose first value is that of the offset 1 - length."""
    shape = [1, filter_CP.shape[0], *[1] * (x_BCS.ndim - 2)]
    shape[axis] = -1
    turned = torch.fft.rfft(filter_CP.roll(1 - length, dims=1), n=2 * length).reshape(shape)
    y = torch.fft.irfft(torch.fft.rfft(x_BCS, n=2 * length, dim=axis) * turned, n=2 * length, dim=axis)
    return y.narrow(axis, 0, length)


class AxialShift(nn.Module):
    """Lian et al. 2022 (arXiv:2107.08391), section 3.2, with the shift as its listing has it: pad, chunk, roll, cut."""

    def __init__(self, ours: Any, size: Size) -> None:
        super().__init__()
        self.shift, self.pad = ours.shift, ours.shift // 2
        self.start = nn.Sequential(ours.norm, ours.expand, ours.expand_norm, nn.GELU())
        self.axes, self.end = ours.axes, nn.Sequential(ours.project_norm, ours.project)

    def forward(self, x_BCS: Tensor) -> Tensor:
        y = self.start(x_BCS)
        padded = F.pad(y, [self.pad] * (2 * (y.ndim - 2)))
        groups = torch.chunk(padded, self.shift, 1)
        mixed = [F.gelu(conv(self.moved(groups, axis, y.shape[2:]))) for axis, conv in enumerate(self.axes, start=2)]
        return self.end(sum(mixed[1:], mixed[0]))

    def moved(self, groups: tuple[Tensor, ...], axis: int, size: Size) -> Tensor:
        steps = range(-self.pad, self.pad + 1)
        y = torch.cat([torch.roll(group, step, axis) for group, step in zip(groups, steps, strict=False)], 1)
        for along, length in enumerate(size, start=2):
            y = torch.narrow(y, along, self.pad, length)
        return y


class NormedMap(nn.Module):
    """A layer of maps behind a norm of channels."""

    def __init__(self, norm: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.norm, self.layer = norm, layer

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.layer(to_first(self.norm(to_last(x_BCS))))


class Pool(nn.Module):
    """Yu et al. 2022 (arXiv:2111.11418), eq. 4, in 3D: the mean of the neighbours less the position itself."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool3d(kernel, stride=1, padding=kernel // 2, count_include_pad=False)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return self.pool(x_BCS) - x_BCS


def pooling(ours: Any, size: Size) -> nn.Module:
    """Pooling in 3D."""
    return NormedMap(ours.norm, Pool(ours.kernel[0]))


def local_concentration(ours: Any, size: Size) -> nn.Module:
    """Zheng 2025 (arXiv:2501.16182): DW(BN(GELU(DW(LN(x)))))."""
    return NormedMap(ours.norm, nn.Sequential(ours.filter, nn.GELU(), ours.filter_norm, ours.refilter))


def separable_conv(ours: Any, size: Size) -> nn.Module:
    """Li et al. 2022 (arXiv:2201.09450), section 3.2: BN, 1 x 1, depthwise, 1 x 1."""
    return nn.Sequential(ours.norm, ours.expand, ours.filter, ours.project)
