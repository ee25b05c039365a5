"""The ``add_gate`` decoder with the blocks of the encoder's stages, built afresh, after the gate of each level.

Source: BRAU-Net++ (arXiv:2401.00722) and TCSAFormer (arXiv:2508.04058), whose decoders repeat the encoder's blocks.

Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from medsearch.blocks import HEADS
from medsearch.blocks.heads.add_gate import AddGateHead


@HEADS.add("mirrored_add_gate")
class MirroredAddGateHead(AddGateHead):
    """Stage features to a map of the image's size, (B, outputs, *S).

    Args:
        widths: channels of every stage, fine to coarse.
        dims: spatial axes, 2 or 3.
        outputs: classes of a segmentation, or image channels of a denoiser.
        blocks: for every stage, fine to coarse, a module that keeps the shape of its map, made of blocks as the stage
            is; that of the coarsest stage has no level to go to and is dropped.
        rate: by how much the gates narrow the channels.
        kernel: edge of the dense convolutions of the spatial gate; the sources have 7, which is dear in 3D.

    Cost: that of ``add_gate`` and of the blocks.
    """

    NAME = "mirrored_add_gate"

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        dims: int,
        outputs: int,
        blocks: list[nn.Module],
        rate: int = 4,
        kernel: int = 3,
    ) -> None:
        super().__init__(widths, dims=dims, outputs=outputs, rate=rate, kernel=kernel)
        self.mirrors = nn.ModuleList(blocks[: len(widths) - 1])

    def raised(self, level: int, x_BCS: Tensor, skip_BCS: Tensor) -> Tensor:
        """The decoder's map one level up: joined with the stage's features, gated, through the stage's blocks."""
        return self.mirrors[level](super().raised(level, x_BCS, skip_BCS))
