"""A Kolmogorov-Arnold feed-forward layer: every channel through learned one-dimensional functions, which are summed.

Source: the FasterKAN layers of MedViTV2 (Manzari et al. 2025, arXiv:2502.13693), after FastKAN (Li 2024,
arXiv:2405.06721): y_o = sum over c and g of W_goc (1 - tanh^2((LN(x)_c - p_g) / 0.33)), the p_g equally spaced in
[-2, 2]; two such layers, each with a LayerNorm of its own, neither with biases.  What differs: every position is one
sample (the release reshapes channels and positions into each other); the sum runs over g one term at a time, and in
training the bumps are made again in the backward pass, so that memory does not grow with their number.
Shapes: B batch, C channels, S spatial axes, G bumps, O outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medsearch.blocks import CHANNELS
from medsearch.blocks.knobs import hidden_width, one_of, whole_number
from medsearch.blocks.nd import to_first, to_last
from medsearch.blocks.strides import map_norm

_FARTHEST, _WIDTH = 2.0, 0.33


@CHANNELS.add("kan")
class KanMlp(nn.Module):
    """Mix the channels of each position through sums of learned functions: C -> hidden -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        ratio: hidden width as a multiple of C.
        hidden: hidden width itself; overrides ``ratio``.
        bumps: values G that a learned function is made of; at least 2.
        norm: ``"layer"``, those of the two layers alone, or ``"batch"``, a BatchNorm before them, as in MedViTV2.

    Cost: 2 * bumps * hidden * C multiply-adds per position.
    """

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        ratio: float = 2.0,
        hidden: int | None = None,
        bumps: int = 8,
        norm: str = "layer",
    ) -> None:
        super().__init__()
        hidden = hidden_width("kan", dim, ratio, hidden)
        whole_number("kan", "bumps", bumps, least=2)
        self.batch_norm = one_of("kan", "norm", norm, ("layer", "batch")) == "batch"
        self.norm = map_norm("batch" if self.batch_norm else "none", dim, dims)
        self.expand, self.project = _KanLayer(dim, hidden, bumps), _KanLayer(hidden, dim, bumps)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return to_first(self.project(self.expand(to_last(self.norm(x_BCS)))))


class _KanLayer(nn.Module):
    """(..., C) -> (..., O): a sum of one learned function of every normalised channel."""

    def __init__(self, width: int, outputs: int, bumps: int) -> None:
        super().__init__()
        self.places = [_FARTHEST * (2 * bump / (bumps - 1) - 1) for bump in range(bumps)]
        self.norm = nn.LayerNorm(width)
        self.weight_GOC = nn.Parameter(torch.empty(bumps, outputs, width))
        bound = (6 / (bumps * width + outputs)) ** 0.5
        nn.init.uniform_(self.weight_GOC, -bound, bound)

    def forward(self, x_BSC: Tensor) -> Tensor:
        x_BSC = self.norm(x_BSC)
        sum_BSO = self._term(x_BSC, 0).to(x_BSC.dtype)
        for bump in range(1, len(self.places)):
            sum_BSO = sum_BSO + self._term(x_BSC, bump)
        return sum_BSO

    def _term(self, x_BSC: Tensor, bump: int) -> Tensor:
        place, weight_OC = self.places[bump], self.weight_GOC[bump]
        if self.training:
            return checkpoint(_bump, x_BSC, weight_OC, place, use_reentrant=False, preserve_rng_state=False)
        return _bump(x_BSC, weight_OC, place)


def _bump(x_BSC: Tensor, weight_OC: Tensor, place: float) -> Tensor:
    return F.linear(1 - torch.tanh((x_BSC - place) / _WIDTH).square(), weight_OC)
