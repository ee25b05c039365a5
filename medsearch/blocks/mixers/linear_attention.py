"""Linear attention: every position reads one summary of all keys and values, at a cost linear in their number.

Source: the kernel elu + 1 of Katharopoulos et al. 2020 (arXiv:2006.16236, eq. 7), and beside it a depthwise convolution
of the values (LePE of CSWin, Dong et al. 2022, arXiv:2107.00652): y_n = q_n (mean_m k_m v_m^T) / (q_n . mean_m k_m +
1e-6) + DW(v)_n.  The gate, the rotation and the narrowed values are those of HRMedSeg (Xu et al. 2025,
arXiv:2504.06205); the other kernels are told in ``linear_kernels``.  What differs: means over the keys stand for sums,
and they are taken in float32 in any precision, so that half precision does not overflow.
Shapes: B batch, C channels, S spatial axes, H heads, N positions, D width of a head, R width of narrowed values.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import Projections, attention_heads
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import one_of, whole_number, yes_or_no
from medsearch.blocks.linear_kernels import (
    KERNELS,
    axial_rotation,
    linear_product,
    refuse_what_cannot_turn,
)
from medsearch.blocks.nd import to_first, to_last


@MIXERS.add("linear_attention")
class LinearAttention(nn.Module):
    """Mix all positions through one small matrix per head, and neighbours through a depthwise filter.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        local: edge of the depthwise window on the values; odd, 0 for none.
        kernel: ``"elu1"``; ``"relu"`` (L2ViT: a sum of weights below 100 counts as 100, a learned factor per head);
            ``"efficient"`` (softmax of queries over channels and of keys over positions) or ``"swapped"`` (MSLAU-Net:
            the other way round).
        gate: multiply the result by the SiLU of a projection of the normed input.
        value_bottleneck: narrow the values to C divided by this, SiLU, and widen them again; 0 for one plain layer.
        rotary: turn queries and keys by where they are, each axis of the map on its own share of the width.  Heads then
            differ in what turns them, and cannot be cut out.
        bias: whether queries, keys and values have a bias.

    Cost, with inner = heads * head_dim: (4 * C + 2 * head_dim + 1 + local^dims) * inner multiply-adds per position (the
    1 only for the first two kernels), C * inner more with a gate; values narrowed to R take (C + inner) * R of them
    instead of C * inner.
    """

    FAMILY = "linear_attention"
    NORM = "layer"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        heads: int | None = None,
        head_dim: int | None = None,
        local: int = 3,
        kernel: str = "elu1",
        gate: bool = False,
        value_bottleneck: int = 0,
        rotary: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        part = "linear_attention"
        shape = attention_heads(part, dim, heads, head_dim)
        self.kernel = one_of(part, "kernel", kernel, KERNELS)
        self.rotary = yes_or_no(part, "rotary", rotary)
        if rotary:
            refuse_what_cannot_turn(part, shape.heads, shape.head_dim, dims)
        ratio = whole_number(part, "value_bottleneck", value_bottleneck, least=0)
        if ratio > dim:
            raise ValueError(f"{part}: value_bottleneck must be at most {dim}, got {ratio}; try {dim}")
        self.narrow = dim // ratio if ratio else 0
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=gate, local=local)
        if ratio:
            squeeze, expand = nn.Linear(dim, self.narrow, bias), nn.Linear(self.narrow, shape.inner, bias)
            self.project.add_module("v", nn.Sequential(squeeze, nn.SiLU(), expand))
        self.temperature = nn.Parameter(torch.full((shape.heads,), shape.head_dim**-0.5)) if kernel == "relu" else None

    def forward(self, x_BCS: Tensor) -> Tensor:
        size = tuple(x_BCS.shape[2:])
        x_BSC = self.project.norm(to_last(x_BCS))
        q, k, v = self.project(x_BSC)
        heads, head_dim, _ = self.project.shape
        rotation = axial_rotation(size, heads, head_dim, x_BSC) if self.rotary else None
        split = (part.flatten(1, -3).transpose(1, 2) for part in (q, k, v))
        y_BHND = linear_product(self.kernel, *split, rotation=rotation, factor_H=self.temperature)
        y_BSC = y_BHND.transpose(1, 2).flatten(2).unflatten(1, size)
        return to_first(self.project.leave(y_BSC, x_BSC, v.flatten(-2)))

    def groups(self) -> dict[str, Group]:
        """The heads, each with its factor; of narrowed values what widens them."""
        if self.rotary:
            return {}
        more = () if self.temperature is None else (Axis("temperature"),)
        group = self.project.group("project", *more)
        widened = {"project.v": "project.v.2"} if self.narrow else {}
        made = tuple(axis._replace(name=widened.get(axis.name, axis.name)) for axis in group.made)
        return {"heads": Group(made, group.read)}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """Every position of a map of ``size``, by way of one summary."""
        return prod(size)
