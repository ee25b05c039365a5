"""The patchify stem: non-overlapping patches, one linear map, LayerNorm.

Source: Swin (Liu et al. 2021, arXiv:2103.14030, section 3.1) and ConvNeXt (arXiv:2201.03545): kernel = stride = patch.
What differs: an image whose size is no multiple of the patch is zero-padded at the end of the axis.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.nd import CONV, pad_to_multiple, to_first, to_last, whole_number


@STEMS.add("patch")
class PatchStem(nn.Module):
    """Cut the image into patches and embed each one.

    Args:
        in_channels: channels of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        patch: patch edge in image positions.
    """

    def __init__(self, in_channels: int, dim: int, *, dims: int, patch: int = 4) -> None:
        super().__init__()
        whole_number("patch stem", "patch", patch)
        self.window = (patch,) * dims
        self.embed = CONV[dims](in_channels, dim, patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        padded_BCS = to_first(pad_to_multiple(to_last(x_BCS), self.window))
        return to_first(self.norm(to_last(self.embed(padded_BCS))))
