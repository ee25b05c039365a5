"""The two-layer perceptron applied to every position.

Source: the feed-forward layer of "Attention is all you need" (Vaswani et al. 2017, arXiv:1706.03762, eq. 2) with GELU,
pre-normalised as in ViT.  What differs: behind convolutional mixers the norm is a BatchNorm after the first layer,
where it folds at export, and the layers are 1 x 1 convolutions so that no layout change is needed.  Shapes: B batch, C
channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import CHANNELS
from medsearch.blocks.block_linear import layer_pair
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, one_of
from medsearch.blocks.nd import BATCH_NORM, CONV, to_first, to_last


@CHANNELS.add("mlp")
class Mlp(nn.Module):
    """Mix the channels of each position: C -> hidden -> GELU -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        ratio: hidden width as a multiple of C.
        hidden: hidden width itself; overrides ``ratio`` (a pruned layer says it this way).
        norm: ``"layer"`` before the first layer, ``"batch"`` after it, or ``"batch_first"`` before it (MSLAU-Net).
        row_block: outputs that share their inputs where both layers are pruned in blocks; None for dense layers.
        keep: share of the inputs that every row block keeps; of no effect on dense layers.

    Cost: 2 * hidden * C multiply-adds per position, times ``keep`` where pruned in blocks.
    """

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        ratio: float = 4.0,
        hidden: int | None = None,
        norm: str = "layer",
        row_block: int | None = None,
        keep: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = hidden_width("mlp", dim, ratio, hidden)
        one_of("mlp", "norm", norm, ("layer", "batch", "batch_first"))
        self.kind = norm
        self.act = nn.GELU()
        self.norm_first, self.dense = norm != "batch", row_block is None
        normed = hidden if norm == "batch" else dim
        self.norm: nn.Module = nn.LayerNorm(dim) if norm == "layer" else BATCH_NORM[dims](normed)
        conv = None if self.norm_first else CONV[dims]
        self.expand, self.project = layer_pair("mlp", dim, hidden, conv=conv, row_block=row_block, keep=keep)

    def forward(self, x_BCS: Tensor) -> Tensor:
        if not self.norm_first:
            return self.project(self.act(self.norm(self.expand(x_BCS))))
        x_BSC = self.norm(to_last(x_BCS)) if self.kind == "layer" else to_last(self.norm(x_BCS))
        if self.dense:
            return to_first(self.project(self.act(self.expand(x_BSC))))
        return self.project(self.act(self.expand(to_first(x_BSC))))

    def groups(self) -> dict[str, Group]:
        """The hidden channels, which no other layer sees; none where pruned in blocks."""
        made = (Axis("expand"),) if self.norm_first else (Axis("expand"), Axis("norm"))
        return {"hidden": Group(made, Axis("project.weight", 1))} if self.dense else {}
