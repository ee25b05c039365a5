"""The patchify stem: non-overlapping patches, one linear map, LayerNorm, and positions where they are asked for.

Source: Swin (Liu et al. 2021, arXiv:2103.14030, section 3.1) and ConvNeXt (arXiv:2201.03545): kernel = stride = patch,
then LayerNorm; ViT (Dosovitskiy et al. 2021, arXiv:2010.11929, eq. 1): no norm, and a learned table of positions added.
What differs: an image whose size is no multiple of the patch is zero-padded at the end of the axis; a table is
interpolated linearly for maps of another size.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.knobs import one_of, per_axis
from medsearch.blocks.nd import pad_to_multiple, to_first, to_last
from medsearch.blocks.strides import patch_conv, shrunk

_LINEAR = {2: "bilinear", 3: "trilinear"}


@STEMS.add("patch")
class PatchStem(nn.Module):
    """Cut the image into patches and embed each one.

    Args:
        in_channels: channels of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        patch: patch edge in image positions: a number, or one per axis as in "1x4x4".
        norm: ``"layer"`` after the linear map, or ``"none"``.
        position: edge, in patches, of a learned table of positions that is added: a number, or one per axis; None for
            no table.  The table holds for the map of that size; for others it is interpolated.

    Cost: patch^dims * in_channels * dim multiply-adds per patch.
    """

    def __init__(
        self,
        in_channels: int,
        dim: int,
        *,
        dims: int,
        patch: int | str = 4,
        norm: str = "layer",
        position: int | str | None = None,
    ) -> None:
        super().__init__()
        self.window = per_axis("patch stem", "patch", patch, dims)
        self.normed = one_of("patch stem", "norm", norm, ("layer", "none")) == "layer"
        self.grid = () if position is None else per_axis("patch stem", "position", position, dims)
        self.embed = patch_conv(in_channels, dim, self.window)
        self.norm = nn.LayerNorm(dim) if self.normed else nn.Identity()
        self.position = nn.Parameter(torch.empty(1, dim, *self.grid)) if self.grid else None
        if self.position is not None:
            nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, x_BCS: Tensor) -> Tensor:
        padded_BCS = to_first(pad_to_multiple(to_last(x_BCS), self.window))
        y_BCS = to_first(self.norm(to_last(self.embed(padded_BCS))))
        if self.position is None:
            return y_BCS
        table_1CS: Tensor = self.position
        if y_BCS.shape[2:] != table_1CS.shape[2:]:
            table_1CS = F.interpolate(table_1CS, size=y_BCS.shape[2:], mode=_LINEAR[len(self.window)])
        return y_BCS + table_1CS.to(y_BCS.dtype)

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.window)
