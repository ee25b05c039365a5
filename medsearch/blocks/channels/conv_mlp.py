"""A perceptron with a depthwise convolution on its hidden channels, which also tells positions apart.

Source: PVTv2 (Wang et al. 2022, arXiv:2106.13797, section 3.2) and SegFormer's Mix-FFN (Xie et al. 2021,
arXiv:2105.15203, eq. 3): W2 GELU(DW(W1 LN(x))); SegFormer3D (Perera et al. 2024, arXiv:2404.10156) has a BatchNorm
behind the depthwise convolution, ``norm="both"``.  What differs: behind convolutional mixers two BatchNorms replace the
leading LayerNorm.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import CHANNELS
from medsearch.blocks.block_linear import layer_pair
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, odd_kernel, one_of
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise, to_first, to_last


@CHANNELS.add("conv_mlp")
class ConvMlp(nn.Module):
    """Mix channels, and the nearest neighbours of each hidden channel: C -> hidden -> depthwise k -> GELU -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        ratio: hidden width as a multiple of C.
        hidden: hidden width itself; overrides ``ratio``.
        kernel: edge of the depthwise window; odd.
        norm: ``"layer"`` before the first layer, ``"batch"`` after the first layer and after the depthwise one, or
            ``"both"``, a LayerNorm before the first and a BatchNorm after the depthwise one.
        row_block: outputs that share their inputs where both layers are pruned in blocks; None for dense layers.
        keep: share of the inputs that every row block keeps; of no effect on dense layers.

    Cost: (2 * C + kernel^dims) * hidden multiply-adds per position, the 2 * C times ``keep`` where pruned in blocks.
    """

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        ratio: float = 3.0,
        hidden: int | None = None,
        kernel: int = 3,
        norm: str = "layer",
        row_block: int | None = None,
        keep: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = hidden_width("conv_mlp", dim, ratio, hidden)
        odd_kernel("conv_mlp", kernel)
        one_of("conv_mlp", "norm", norm, ("layer", "batch", "both"))
        self.act = nn.GELU()
        self.norm_first, self.filter_normed, self.dense = norm != "batch", norm != "layer", row_block is None
        self.filter = CONV[dims](hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=self.norm_first)
        self.norm: nn.Module = nn.LayerNorm(dim) if self.norm_first else BATCH_NORM[dims](hidden)
        self.filter_norm: nn.Module = BATCH_NORM[dims](hidden) if self.filter_normed else nn.Identity()
        conv = None if self.norm_first else CONV[dims]
        self.expand, self.project = layer_pair("conv_mlp", dim, hidden, conv=conv, row_block=row_block, keep=keep)

    def forward(self, x_BCS: Tensor) -> Tensor:
        if not self.norm_first:
            return self.project(self._filtered(self.norm(self.expand(x_BCS))))
        x_BSC = self.norm(to_last(x_BCS))
        if self.dense:
            return to_first(self.project(to_last(self._filtered(to_first(self.expand(x_BSC))))))
        return self.project(self._filtered(self.expand(to_first(x_BSC))))

    def _filtered(self, hidden_BCS: Tensor) -> Tensor:
        return self.act(self.filter_norm(depthwise(self.filter, hidden_BCS)))

    def groups(self) -> dict[str, Group]:
        """The hidden channels with their filters, which no other layer sees; none where pruned in blocks."""
        made = ("expand", *(() if self.norm_first else ("norm",)), "filter")
        made += ("filter_norm",) if self.filter_normed else ()
        return {"hidden": Group(tuple(map(Axis, made)), Axis("project.weight", 1))} if self.dense else {}
