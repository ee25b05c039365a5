"""What the MLPs over positions share: sets of positions that one learned matrix mixes, and the gate made of it.

Source: the spatial gating unit of gMLP (Liu et al. 2021, arXiv:2105.08050, section 2.1), there over all positions of a
fixed map, here over the positions of one set, as in MAXIM (Tu et al. 2022, arXiv:2201.02973) and FullMLP (Meng et al.
2023, arXiv:2311.16707).
Shapes: B batch, C channels, S spatial axes, H hidden channels, T positions of a set, M = B * sets * H.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod

import torch
from torch import Tensor, nn

from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, per_axis
from medsearch.blocks.nd import crop_to, pad_to_multiple, to_first, to_last


def set_edges(part: str, knob: str, value: int | str, dims: int) -> tuple[int, ...]:
    """Positions of a set along every axis: a number of at least 2 for all, or text like ``"1x6x6"``."""
    edges = per_axis(part, knob, value, dims, least=1 if isinstance(value, str) else 2)
    if prod(edges) == 1:
        raise ValueError(f"{part}: {knob} must hold at least 2 positions, got {value!r}; try '{'x'.join('2' * dims)}'")
    return edges


class PositionGmlp(nn.Module, ABC):
    """W2 (u * (v' + 1)) with (u, v) = GELU(W1 LN(x)); v' is a linear map of LN(v) over the positions of each set.

    A subclass says with ``_rows`` and ``_map`` which positions are a set.  Held for the backward pass, in floats per
    position beside the input: C for LN(x), 2 H before and 2 H after GELU, H each for LN(v), v' + 1 and the product.

    Args:
        part: the mixer's name, for messages.
        dim: channels C, kept.
        edges: T as positions along every axis.
        ratio: hidden width H as a multiple of C.
        hidden: hidden width itself; overrides ``ratio``.
    """

    FAMILY = "mlp"
    NORM = "layer"

    def __init__(self, part: str, dim: int, edges: tuple[int, ...], *, ratio: float, hidden: int | None) -> None:
        super().__init__()
        hidden = hidden_width(part, dim, ratio, hidden)
        tokens = prod(edges)
        self.edges = edges
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * hidden)
        self.act = nn.GELU()
        self.gate_norm = nn.LayerNorm(hidden)
        self.mix_TT = nn.Parameter(torch.randn(tokens, tokens) * 1e-3)
        self.bias_T = nn.Parameter(torch.zeros(tokens))
        self.project = nn.Linear(hidden, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        u_BSH, v_BSH = self.act(self.expand(self.norm(to_last(x_BCS)))).chunk(2, dim=-1)
        return to_first(self.project(u_BSH * self._gate(v_BSH)))

    def groups(self) -> dict[str, Group]:
        """The hidden channels, each with its gate; the norm of the gates sees the fewer of them."""
        made = (Axis("expand", repeats=2), Axis("gate_norm"))
        return {"hidden": Group(made, Axis("project.weight", 1))}

    def _gate(self, v_BSH: Tensor) -> Tensor:
        """v' + 1, the 1 already in the bias."""
        size, hidden = v_BSH.shape[1:-1], v_BSH.shape[-1]
        v_BSH = pad_to_multiple(self.gate_norm(v_BSH), self.edges)
        padded = tuple(v_BSH.shape[1:-1])
        gate_TM = torch.addmm((self.bias_T + 1).unsqueeze(1), self.mix_TT, self._rows(v_BSH))
        return crop_to(self._map(gate_TM, padded, hidden), size)

    @abstractmethod
    def _rows(self, v_BSH: Tensor) -> Tensor:
        """(B, *S, H) -> (T, M): row t is position t of every set."""

    @abstractmethod
    def _map(self, rows_TM: Tensor, size: tuple[int, ...], hidden: int) -> Tensor:
        """(T, M) -> (B, *S, H): the inverse of ``_rows``."""
