"""All-MLP decoder: one linear map per level, resized to the finest, fused by another linear map.

Source: SegFormer (Xie et al. 2021, arXiv:2105.15203, eq. 4) and SegFormer3D (arXiv:2404.10156), which adds a LayerNorm
after each linear map: M = Linear(ReLU(BN(Linear(concat_i resize(LN(Linear(x_i))))))).  What differs: the fusing map is
applied to each level *before* the resize and the results are added.  A linear map of the channels commutes with an
interpolation of the positions, so function and parameters are those of the source, at a third of the cost in 3D.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.steps import resize
from medsearch.blocks.knobs import one_of, whole_number
from medsearch.blocks.nd import BATCH_NORM, CONV, to_first, to_last


@HEADS.add("allmlp")
class AllMLPHead(nn.Module):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        dim: channels of the decoder; the sources have 256.
        norm: LayerNorm after the linear map of a level, ``"layer"`` (SegFormer3D), or ``"none"`` (SegFormer).

    Cost: (C + dim) * dim multiply-adds per position of a level, and dim * outputs per position of the finest.
    """

    TASKS = ("segmentation", "denoising")

    def __init__(self, widths: tuple[int, ...], *, dims: int, outputs: int, dim: int = 64, norm: str = "layer") -> None:
        super().__init__()
        whole_number("allmlp", "dim", dim)
        normed = one_of("allmlp", "norm", norm, ("layer", "none")) == "layer"
        self.linears = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) if normed else nn.Identity() for _ in widths)
        self.fuses = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in widths)
        self.norm = BATCH_NORM[dims](dim)
        self.act = nn.ReLU()
        self.predict = CONV[dims](dim, outputs, 1)

    def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
        x_BCS = self._fused(0, features[0])
        for level in range(1, len(features)):
            x_BCS = x_BCS + resize(self._fused(level, features[level]), x_BCS.shape[2:])
        return resize(self.predict(self.act(self.norm(x_BCS))), image_BCS.shape[2:])

    def _fused(self, level: int, x_BCS: Tensor) -> Tensor:
        """This level's term of the fusing map."""
        return to_first(self.fuses[level](self.norms[level](self.linears[level](to_last(x_BCS)))))
