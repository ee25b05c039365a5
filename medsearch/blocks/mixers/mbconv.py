"""Inverted bottleneck: widen, filter every hidden channel on its own, gate the channels if wished, narrow.

Source: MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, section 3.3), with the channel gates of EfficientNet (Tan
and Le 2019, arXiv:1905.11946): BN(W2 SE(GELU(BN(DW(GELU(BN(W1 x))))))), SE(u) = u * sigmoid(V2 GELU(V1 mean(u))).
With ``ratio=2.0, after="gelu"`` it is the block of HRMedSeg's first stage (Xu et al. 2025, arXiv:2504.06205).
What differs: GELU stands for ReLU6 and SiLU; HRMedSeg's last BatchNorm starts at zero, this one at one.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, odd_kernels, whole_number
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise


@MIXERS.add("mbconv")
class MBConv(nn.Module):
    """Mix channels and neighbours in a wider space: C -> hidden -> depthwise k -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        ratio: hidden width as a multiple of C.
        hidden: hidden width itself; overrides ``ratio``.
        kernel: window edge in positions, one for all axes or one per axis (``"1x3x3"``); odd.
        se: multiply hidden channels by gates that C // ``se`` units make from the means of the map; 0 for no gates.
        after: ``"gelu"`` to activate the sum with the residual stream, by the branch GELU(x + f(x)) - x; or ``"none"``.

    Cost: (2 * C + kernel^dims) * hidden multiply-adds per position, and 2 * (C // se) * hidden per image with gates.
    """

    FAMILY = "conv"
    NORM = "batch"

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        ratio: float = 4.0,
        hidden: int | None = None,
        kernel: int | str = 3,
        se: int = 0,
        after: str = "none",
    ) -> None:
        super().__init__()
        self.kernel = odd_kernels("mbconv", kernel, dims)
        if whole_number("mbconv", "se", se, least=0) > dim:
            raise ValueError(f"mbconv: se must be at most {dim}, got {se!r}; try {dim}")
        if after not in ("none", "gelu"):
            raise ValueError(f"mbconv: after must be 'none' or 'gelu', got {after!r}; try 'none'")
        hidden, units = hidden_width("mbconv", dim, ratio, hidden), dim // se if se else 0
        self.dim, self.hidden, self.units, self.acts_after = dim, hidden, units, after == "gelu"
        self.act = nn.GELU()
        window: dict[str, Any] = {"kernel_size": self.kernel, "padding": tuple(edge // 2 for edge in self.kernel)}
        self.expand = CONV[dims](dim, hidden, 1, bias=False)
        self.expand_norm = BATCH_NORM[dims](hidden)
        self.filter = CONV[dims](hidden, hidden, **window, groups=hidden, bias=False)
        self.filter_norm = BATCH_NORM[dims](hidden)
        self.squeeze = CONV[dims](hidden, units, 1) if se else None
        self.excite = CONV[dims](units, hidden, 1) if se else None
        self.project = CONV[dims](hidden, dim, 1, bias=False)
        self.project_norm = BATCH_NORM[dims](dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        hidden_BHS = self.act(self.expand_norm(self.expand(x_BCS)))
        hidden_BHS = self._gated(self.act(self.filter_norm(depthwise(self.filter, hidden_BHS))))
        y_BCS = self.project_norm(self.project(hidden_BHS))
        return self.act(x_BCS + y_BCS) - x_BCS if self.acts_after else y_BCS

    def _gated(self, x_BHS: Tensor) -> Tensor:
        """Every channel times what the means of all channels say of it; as it is without gates."""
        if self.squeeze is None or self.excite is None:
            return x_BHS
        mean_BHS = x_BHS.mean(tuple(range(2, x_BHS.ndim)), keepdim=True)
        return x_BHS * self.excite(self.act(self.squeeze(mean_BHS))).sigmoid()

    def groups(self) -> dict[str, Group]:
        """The hidden channels with their filters and what makes their gates."""
        made = tuple(map(Axis, ("expand", "expand_norm", "filter", "filter_norm")))
        gates = (Axis("squeeze.weight", 1), Axis("excite")) if self.units else ()
        return {"hidden": Group((*made, *gates), Axis("project.weight", 1))}
