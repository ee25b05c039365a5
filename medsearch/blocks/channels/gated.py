"""A perceptron whose hidden channels are multiplied by gates.

Source: GLU variants (Shazeer 2020, arXiv:2002.05202, eq. 5 and 6): W2 (act(W1 x) * W3 x), without biases; ``act`` names
the variant: SwiGLU, GEGLU, ReGLU, GLU.  What differs: behind convolutional mixers a BatchNorm follows the first layer.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import CHANNELS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, one_of
from medsearch.blocks.nd import BATCH_NORM, CONV, to_first, to_last

_ACTS: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "sigmoid": F.sigmoid}


@CHANNELS.add("gated")
class GatedMlp(nn.Module):
    """Mix the channels of each position: C -> hidden gates times hidden values -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        ratio: hidden width as a multiple of C; 8 / 3 costs what a plain perceptron of ratio 4 does.
        hidden: hidden width itself; overrides ``ratio``.
        act: what makes a gate: ``"silu"``, ``"gelu"``, ``"relu"`` or ``"sigmoid"``.
        norm: ``"layer"`` before the first layer, or ``"batch"`` after it.

    Cost: 3 * hidden * C multiply-adds per position.
    """

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        ratio: float = 8 / 3,
        hidden: int | None = None,
        act: str = "silu",
        norm: str = "layer",
    ) -> None:
        super().__init__()
        hidden = hidden_width("gated", dim, ratio, hidden)
        self.act = one_of("gated", "act", act, tuple(_ACTS))
        self.norm_first = one_of("gated", "norm", norm, ("layer", "batch")) == "layer"
        self.norm: nn.Module = nn.LayerNorm(dim) if self.norm_first else BATCH_NORM[dims](2 * hidden)
        self.expand: nn.Module
        self.project: nn.Module
        if self.norm_first:
            self.expand, self.project = nn.Linear(dim, 2 * hidden, bias=False), nn.Linear(hidden, dim, bias=False)
        else:
            conv = CONV[dims]
            self.expand, self.project = conv(dim, 2 * hidden, 1, bias=False), conv(hidden, dim, 1, bias=False)

    def forward(self, x_BCS: Tensor) -> Tensor:
        if self.norm_first:
            gate_BSC, value_BSC = self.expand(self.norm(to_last(x_BCS))).chunk(2, dim=-1)
            return to_first(self.project(_ACTS[self.act](gate_BSC) * value_BSC))
        gate_BCS, value_BCS = self.norm(self.expand(x_BCS)).chunk(2, dim=1)
        return self.project(_ACTS[self.act](gate_BCS) * value_BCS)

    def groups(self) -> dict[str, Group]:
        """The hidden channels, each with its gate."""
        made = (Axis("expand", repeats=2),) if self.norm_first else (Axis("expand", repeats=2), Axis("norm", repeats=2))
        return {"hidden": Group(made, Axis("project.weight", 1))}
