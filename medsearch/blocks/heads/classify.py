"""Classification head: norm and global mean in either order, one linear map.

Source: ConvNeXt (arXiv:2201.03545) normalises after the mean, Swin (arXiv:2103.14030) and L2ViT before it, MedFormer
(arXiv:2507.02488) and MedViTV2 (arXiv:2502.13693) before it with BatchNorm.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.knobs import one_of
from medsearch.blocks.nd import BATCH_NORM, to_last


@HEADS.add("classify")
class ClassifyHead(nn.Module):
    """Stage features to class logits (B, outputs); only the last stage is read.

    Args:
        widths: channels of every stage.
        dims: spatial axes, 2 or 3.
        outputs: number of classes.
        norm: LayerNorm on the ``"pooled"`` vector or on every position (``"tokens"``) before pooling, ``"batch"``
            for BatchNorm before pooling, or ``"none"``.

    Cost: C * outputs multiply-adds.
    """

    TASKS = ("classification",)

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, norm: str = "pooled") -> None:
        super().__init__()
        self.placed = one_of("classify", "norm", norm, ("pooled", "tokens", "batch", "none"))
        self.norm: nn.Module = nn.LayerNorm(widths[-1])
        if norm in ("batch", "none"):
            self.norm = BATCH_NORM[dims](widths[-1]) if norm == "batch" else nn.Identity()
        self.linear = nn.Linear(widths[-1], outputs)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = self.norm(features[-1]) if self.placed == "batch" else features[-1]
        x_BNC = to_last(x_BCS).flatten(1, -2)
        if self.placed == "tokens":
            x_BNC = self.norm(x_BNC)
        x_BC = x_BNC.mean(1)
        return self.linear(self.norm(x_BC) if self.placed == "pooled" else x_BC)
