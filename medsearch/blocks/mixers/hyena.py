"""Hyena: filters as long as the map, made by a small network, alternate with products of projected streams.

Source: Hyena (Poli et al. 2023, arXiv:2302.10866, definition 3.1 and section 3.3) and its form for maps (Zimerman and
Wolf 2024, arXiv:2309.13600), with filters that are products of one filter per axis.  For streams v, x_1, ..., x_o, each
a depthwise convolution of a projection of LN(x): z_1 = v, z_(n+1) = x_n * (h_n conv z_n + d_n z_n), the result is a
projection of z_(o+1).  Per axis of length L, h(i) = window(i) * FFN(i / L), FFN a network with sines for activations on
i / L and the sines and cosines of pi k i / L; window(i) = exp(-alpha |i| / L), alpha spread over the channels.
What differs: offsets i run from -(L - 1) to L - 1, so that one filter sees all around and no direction has to be
flipped; the window sums to 1, so that an input is weighed alike at any size; the authors' code leaves out h_1.  The
filter of an axis is a Toeplitz matrix here, and the convolution one batched matrix product per axis: that takes filters
which are products, and less time than Fourier transforms do; nothing wraps around, and nothing is padded.
Shapes: B batch, C channels, S spatial axes, L length of one axis, O order, K streams and channels, P = 2 L offsets.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import whole_number
from medsearch.blocks.nd import CONV, depthwise, to_first, to_last, without_autocast

_DECAY = (math.log(100) / 1.5, math.log(100) / 0.3)  # a window falls to 1 % within 1.5 maps, or within 0.3


class AxisFilters(nn.Module):
    """The filters of all orders and channels along one axis, of any length."""

    def __init__(self, order: int, dim: int, width: int, bands: int) -> None:
        super().__init__()
        self.order, self.dim, self.bands = order, dim, bands
        self.first, self.second = nn.Linear(1 + 2 * bands, width), nn.Linear(width, width)
        self.last = nn.Linear(width, order * dim, bias=False)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=(2 / layer.in_features) ** 0.5)
        nn.init.normal_(self.last.weight, std=(2 / width) ** 0.5)

    def forward(self, length: int) -> Tensor:
        """(O, C, P): the values at offsets 1 - L to L."""
        with without_autocast(self.last.weight.device):
            kind: dict[str, Any] = {"dtype": self.last.weight.dtype, "device": self.last.weight.device}
            i_P1 = torch.arange(1 - length, length + 1, **kind).unsqueeze(1) / length
            turn_PK = i_P1 * torch.arange(1, self.bands + 1, **kind) * math.pi
            features_PF = torch.cat([i_P1, turn_PK.cos(), turn_PK.sin()], dim=1)
            hidden_PW = self.second(self.first(features_PF).sin()).sin()
            values_POC = self.last(hidden_PW).reshape(-1, self.order, self.dim)
            decay_C = torch.linspace(*_DECAY, self.dim, **kind)
            window_PC = (-decay_C * i_P1.abs()).exp()
            window_PC = window_PC / window_PC[: 2 * length - 1].sum(0)
            return (values_POC * window_PC.unsqueeze(1)).permute(1, 2, 0)


@MIXERS.add("hyena")
class Hyena(nn.Module):
    """Mix all positions by filters as long as the map, and multiply streams of the input with the results.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        order: number of filters and of products.
        width: hidden width of the networks that make the filters, one per axis; the authors have 64.
        bands: how many frequencies they are told of each position; the authors' vision networks have 1.

    Cost: ((order + 2) * C + 3^dims * (order + 1) + order * (the sum of all L)) * C multiply-adds per position, and per
    axis 2 * L * width * (width + order * C + 2 * bands + 1) for the filters, however many images there are.
    """

    FAMILY = "spectral"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, order: int = 2, width: int = 32, bands: int = 4) -> None:
        super().__init__()
        for knob, value in (("order", order), ("width", width), ("bands", bands)):
            whole_number("hyena", knob, value)
        self.dim, self.order, self.bands = dim, order, bands
        streams = (order + 1) * dim
        self.norm = nn.LayerNorm(dim)
        self.streams = nn.Linear(dim, streams)
        self.near = CONV[dims](streams, streams, 3, padding=1, groups=streams)
        self.filters = nn.ModuleList(AxisFilters(order, dim, width, bands) for _ in range(dims))
        self.keep_OC = nn.Parameter(torch.ones(order, dim))
        self.project = nn.Linear(dim, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        streams_BKS = depthwise(self.near, to_first(self.streams(self.norm(to_last(x_BCS)))))
        rest = range(3, x_BCS.ndim)
        z_CLBS, *gates = streams_BKS.permute(1, 2, 0, *rest).contiguous().split(self.dim)
        along_OCP = [filters(length) for filters, length in zip(self.filters, size, strict=True)]
        for step, gate_CLBS in enumerate(gates):
            keep_CLBS = self.keep_OC[step].reshape(-1, *[1] * (z_CLBS.ndim - 1))
            convolved_CLBS = _convolved(z_CLBS, [filters_OCP[step] for filters_OCP in along_OCP])
            z_CLBS = gate_CLBS * (convolved_CLBS + keep_CLBS * z_CLBS)
        return to_first(self.project(z_CLBS.permute(2, 1, *rest, 0)))


def _convolved(x_CLBS: Tensor, filters_CP: list[Tensor]) -> Tensor:
    """Each axis convolved with its filter, of a map whose first spatial axis lies in front of the batch.

    The last axis is multiplied and moved before the others until all have been last; the first one comes first.
    """
    first_CP, *others_CP = filters_CP
    channels, length = x_CLBS.shape[:2]
    for filter_CP in reversed(others_CP):
        y_CNL = torch.bmm(x_CLBS.reshape(channels, -1, x_CLBS.shape[-1]), _toeplitz(filter_CP))
        x_CLBS = y_CNL.reshape(x_CLBS.shape).movedim(x_CLBS.ndim - 1, 3)
    y_CLN = torch.bmm(_toeplitz(first_CP).transpose(1, 2), x_CLBS.reshape(channels, length, -1))
    return y_CLN.reshape(x_CLBS.shape)


def _toeplitz(filter_CP: Tensor) -> Tensor:
    """(C, L, L) with the filter's value at offset i - j in row j, column i.

    Repeated values read in rows of 2 L - 1, one less than there are, begin one position earlier in every row.
    """
    channels, length = filter_CP.shape[0], filter_CP.shape[1] // 2
    rows = filter_CP.unsqueeze(1).expand(-1, length, -1).reshape(channels, -1)
    return rows[:, : length * (2 * length - 1)].reshape(channels, length, 2 * length - 1)[..., length - 1 :]
