"""Neighbourhood attention: every position reads the window around itself, which the borders push inwards.

Source: Hassani et al. 2023 (arXiv:2204.07143, eq. 1-4) and, for the dilation, Hassani and Shi 2022 (arXiv:2209.15001,
section 3): softmax(q k^T / sqrt(D) + bias) v over kernel^D keys, so many for every query.  What differs: no kernel of
its own is needed: queries are taken by tiles, each with the keys that any of them reads, and a mask; and an axis of
fewer positions (of one residue of the dilation) than the kernel is read whole.
Shapes: B batch, C channels, S spatial axes, N positions, G tiles, T queries of a tile, M keys of a tile, H heads, Q
width of a head's queries and keys, D width of its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import ceil, prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import MASKED, OffsetTable, Projections, SoftmaxProduct, attention_heads
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import one_of, per_axis
from medsearch.blocks.nd import to_first, to_last


@MIXERS.add("neighbourhood_attention")
class NeighbourhoodAttention(nn.Module):
    """Mix every position with its ``kernel`` nearest per axis.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: edge of the window in positions, or one per axis like ``"3x7x7"``; odd.
        dilation: distance of neighbouring keys in positions, or one per axis.
        position: ``"table"`` adds a learned bias per offset and head to the scores, ``"none"`` nothing.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        qk_dim: width of a head's queries and keys; None gives them ``head_dim``.
        bias: whether queries, keys and values have a bias.
        scale: ``"head"`` divides scores by the root of the width of a head's queries, ``"full"`` by that of C.
        select: a query keeps one in ``select`` of its keys; 1 keeps all.
        least: fewest keys kept.
        differential: the difference of two maps of half the width each, as in Differential Transformer.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of a depthwise window on the values, added to the result; odd, 0 for none.

    Cost, with inner = heads * head_dim: (4 * C + local^dims) * inner multiply-adds per position, and 2 * M * inner per
    query, where M is (kernel + 3)^dims in 2D; a gate adds C * inner.
    """

    FAMILY = "window_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        kernel: int | str = 7,
        dilation: int | str = 1,
        position: str = "table",
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
        local: int = 0,
    ) -> None:
        super().__init__()
        part = "neighbourhood_attention"
        self.kernel = per_axis(part, "kernel", kernel, dims)
        for edge in self.kernel:
            if edge % 2 == 0:
                raise ValueError(f"{part}: kernel must be odd to have a centre, got {kernel!r}; try {edge + 1}")
        self.dilation = per_axis(part, "dilation", dilation, dims)
        shape = attention_heads(part, dim, heads, head_dim, qk_dim, differential=differential)
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=gate, local=local)
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
        table = one_of(part, "position", position, ("table", "none")) == "table"
        self.position = OffsetTable(self.kernel, shape.heads) if table else None

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(int(length) for length in x_BCS.shape[2:])
        x_BSC = self.project.norm(to_last(x_BCS))
        q, k, v = self.project(x_BSC)
        q_BHNQ, k_BHNQ, v_BHND = (part.flatten(1, -3).transpose(1, 2) for part in (q, k, v))
        y_BNHD = self._attend(q_BHNQ, k_BHNQ, v_BHND, size).transpose(1, 2)
        return to_first(self.project.leave(y_BNHD.reshape(v.flatten(-2).shape), x_BSC, v.flatten(-2)))

    def groups(self) -> dict[str, Group]:
        """The heads, each with its column of the bias table."""
        table = () if self.position is None else (Axis("position.table", 1),)
        return {"heads": self.project.group("project", *table)}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many positions a query reads on a map of ``size``."""
        return self.product.kept(self._offered(self._tiles(size)))

    def _tiles(self, size: tuple[int, ...]) -> list[_Tiles]:
        """Tiles that are fastest on a CPU: wider ones meet more keys in vain, narrower ones gather more of them."""
        small = 2 if len(size) == 3 else 4
        edges = [small if edge <= 3 else 4 for edge in self.kernel]
        return [_Tiles.of(*axis) for axis in zip(size, self.kernel, self.dilation, edges, strict=True)]

    def _offered(self, tiles: Sequence[_Tiles]) -> int:
        """Keys that a query reads."""
        return prod(min(tile.kernel, tile.positions) for tile in tiles)

    def _attend(self, q_BHNQ: Tensor, k_BHNQ: Tensor, v_BHND: Tensor, size: tuple[int, ...]) -> Tensor:
        """(B, H, N, D): heads and tiles lie side by side where the product expects heads."""
        tiles = self._tiles(size)
        places = [tile.places(q_BHNQ.device) for tile in tiles]
        bias, offered = self._bias(tiles, places), self._offered(tiles)
        if prod(tile.groups for tile in tiles) == 1:
            return self.product(q_BHNQ, k_BHNQ, v_BHND, bias, offered=offered)
        query_GT = _joint([place.query_GT for place in places], size)
        key_GM = _joint([place.key_GM for place in places], size)
        assert bias is not None
        sources = ((q_BHNQ, query_GT), (k_BHNQ, key_GM), (v_BHND, key_GM))
        q, k, v = (_taken(part, index, bias.shape[1]) for part, index in sources)
        y = self.product(q, k, v, bias, offered=offered).reshape(-1, query_GT.numel(), v.shape[-1])
        return y.index_select(1, _slots(tiles, q.device)).unflatten(0, (-1, q_BHNQ.shape[1]))

    def _bias(self, tiles: Sequence[_Tiles], places: Sequence[_Places]) -> Tensor | None:
        """(1, H * G, T, M) with a table, else (1, G, T, M), which stands for every head; None where all keys are read.

        The heads come first, as in queries that were gathered head by head.
        """
        dims = len(tiles)
        bias = None
        if self.position is not None:
            bias = self.position([place.offset_GTM.flatten(0, 1) for place in places])
            bias = bias.unflatten(2, [tile.keys for tile in tiles])
            bias = bias.unflatten(1, [edge for tile in tiles for edge in (tile.groups, tile.queries)])
            axes = [range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2), range(2 * dims + 1, 3 * dims + 1)]
            bias = bias.permute(0, *(axis for kind in axes for axis in kind))
        if not all(tile.whole for tile in tiles):
            apart = [_spread(place.apart_GTM, axis, dims) for axis, place in enumerate(places)]
            masked = reduce(torch.logical_or, apart).float().unsqueeze(0) * MASKED
            bias = masked if bias is None else bias + masked
        if bias is None:
            return None
        return bias.reshape(1, -1, prod(tile.queries for tile in tiles), prod(tile.keys for tile in tiles))


class _Places(NamedTuple):
    """Along one axis: where the queries and keys of every tile are, how far apart, and which do not meet."""

    query_GT: Tensor
    key_GM: Tensor
    offset_GTM: Tensor
    apart_GTM: Tensor


class _Tiles(NamedTuple):
    """Along one axis: tiles of queries, for every residue of the dilation, and the keys that they may read.

    ``positions`` are those of a residue, at most, and ``queries`` those of a tile.
    """

    length: int
    kernel: int
    dilation: int
    positions: int
    queries: int

    @classmethod
    def of(cls, length: int, kernel: int, dilation: int, queries: int) -> _Tiles:
        """Tiles of so many ``queries``; a single one for a residue of no more positions than two kernels."""
        dilation = min(dilation, length)
        positions = ceil(length / dilation)
        return cls(length, kernel, dilation, positions, positions if positions <= 2 * kernel else queries)

    @property
    def groups(self) -> int:
        """Tiles of all residues together."""
        return self.dilation * ceil(self.positions / self.queries)

    @property
    def keys(self) -> int:
        """Keys of a tile."""
        return min(self.positions, self.queries + self.kernel - 1)

    @property
    def whole(self) -> bool:
        """Whether every query reads every key of its tile."""
        return self.length <= self.kernel and self.dilation == 1

    def places(self, device: torch.device) -> _Places:
        """The window of a query starts half a kernel before it, and inside the map."""
        residue_R11 = torch.arange(self.dilation, device=device).reshape(-1, 1, 1)
        count_R11 = (self.length - 1 - residue_R11) // self.dilation + 1
        edge_R11 = count_R11.clamp_max(self.kernel)
        first_G1 = (torch.arange(self.groups // self.dilation, device=device) * self.queries).unsqueeze(1)
        query_RGT = torch.minimum(first_G1 + torch.arange(self.queries, device=device), count_R11 - 1)
        start_RGT = torch.minimum(query_RGT - edge_R11 // 2, count_R11 - edge_R11).clamp_min(0)
        key_RG1 = torch.minimum(first_G1 - self.kernel // 2, count_R11 - self.keys).clamp_min(0)
        key_RGM = key_RG1 + torch.arange(self.keys, device=device)
        step_RGTM = key_RGM.unsqueeze(2) - start_RGT.unsqueeze(3)
        offset_RGTM = query_RGT.unsqueeze(3) - key_RGM.unsqueeze(2)
        return _Places(
            (residue_R11 + self.dilation * query_RGT).flatten(0, 1),
            (residue_R11 + self.dilation * torch.minimum(key_RGM, count_R11 - 1)).flatten(0, 1),
            offset_RGTM.clamp(1 - self.kernel, self.kernel - 1).flatten(0, 1),
            ((step_RGTM < 0) | (step_RGTM >= edge_R11.unsqueeze(3))).flatten(0, 1),
        )

    def slots(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The tile of every position, and its place in it."""
        position_N = torch.arange(self.length, device=device)
        inner_N = position_N // self.dilation
        tile_N = (position_N % self.dilation) * (self.groups // self.dilation) + inner_N // self.queries
        return tile_N, inner_N % self.queries


def _spread(part_GTM: Tensor, axis: int, dims: int) -> Tensor:
    """One axis' tensor with room for those of the others: G of every axis, then T of every axis, then M."""
    shape = [1] * (part_GTM.dim() * dims)
    shape[axis::dims] = [int(length) for length in part_GTM.shape]
    return part_GTM.reshape(shape)


def _joint(index_GT: Sequence[Tensor], size: tuple[int, ...]) -> Tensor:
    """(G, T): from every tile's positions along each axis, its positions in the flattened map."""
    joint = torch.zeros((), dtype=torch.int64, device=index_GT[0].device)
    for axis, (part_GT, length) in enumerate(zip(index_GT, size, strict=True)):
        joint = joint * length + _spread(part_GT, axis, len(size))
    return joint.reshape(prod(part.shape[0] for part in index_GT), -1)


def _slots(tiles: Sequence[_Tiles], device: torch.device) -> Tensor:
    """(N,): where every position is among the queries of all tiles."""
    slots = [tile.slots(device) for tile in tiles]
    joint = torch.zeros((), dtype=torch.int64, device=device)
    for kind in (0, 1):
        for axis, tile in enumerate(tiles):
            joint = joint * (tile.groups, tile.queries)[kind] + _spread(slots[axis][kind], axis, len(tiles))
    return joint.reshape(-1)


def _taken(x_BHND: Tensor, index_GT: Tensor, across: int) -> Tensor:
    """(B * H * G / across, across, T, D): of every head, the positions of every tile."""
    taken = x_BHND.flatten(0, 1).index_select(1, index_GT.reshape(-1))
    return taken.reshape(-1, across, index_GT.shape[1], x_BHND.shape[-1])
