"""Classification head: global mean, LayerNorm, one linear map.

Source: ConvNeXt (arXiv:2201.03545) normalises after the mean, Swin (arXiv:2103.14030) before it; both are here.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.nd import to_last


@HEADS.add("classify")
class ClassifyHead(nn.Module):
    """Stage features to class logits (B, outputs); only the last stage is read.

    Args:
        widths: channels of every stage.
        dims: spatial axes, 2 or 3.
        outputs: number of classes.
        norm: LayerNorm on the ``"pooled"`` vector, on every position (``"tokens"``) before pooling, or ``"none"``.
    """

    TASKS = ("classification",)

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, norm: str = "pooled") -> None:
        super().__init__()
        if norm not in ("pooled", "tokens", "none"):
            raise ValueError(f"classify: norm must be 'pooled', 'tokens' or 'none', got {norm!r}; try 'pooled'")
        self.before_pool = norm == "tokens"
        self.norm = nn.Identity() if norm == "none" else nn.LayerNorm(widths[-1])
        self.linear = nn.Linear(widths[-1], outputs)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BNC = to_last(features[-1]).flatten(1, -2)
        if self.before_pool:
            return self.linear(self.norm(x_BNC).mean(1))
        return self.linear(self.norm(x_BNC.mean(1)))
