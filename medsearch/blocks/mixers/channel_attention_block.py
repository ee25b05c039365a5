"""Channel attention block: two convolutions, whose channels are then scaled by what the whole image needs.

Source: RCAB of RCAN (Zhang et al. 2018, arXiv:1807.02758, eq. 9-10) as MAXIM (Tu et al. 2022, arXiv:2201.02973) and, in
3D, FullMLP (Meng et al. 2023, arXiv:2311.16707) put it behind each gated MLP: y = conv(LeakyReLU(conv(LN(x)))), out =
y * sigmoid(W2 ReLU(W1 mean(y))), the slope below 0 is 0.2.  What differs: the mean is taken in float32 at least.
Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import odd_kernel, whole_number
from medsearch.blocks.nd import CONV, to_first, to_last


@MIXERS.add("channel_attention_block")
class ChannelAttentionBlock(nn.Module):
    """Filter twice in a window of ``kernel`` positions per axis, then scale every channel by a squeeze-and-excitation.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        kernel: edge of both convolutions in positions; odd, so that the size is kept.
        reduction: channels C over the width of the squeeze, which is at least 1.

    Cost: 2 * kernel^dims * C * C multiply-adds per position, plus 2 * C * C / reduction per image.
    """

    FAMILY = "conv"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, kernel: int = 3, reduction: int = 4) -> None:
        super().__init__()
        odd_kernel("channel_attention_block", kernel)
        squeezed = max(1, dim // whole_number("channel_attention_block", "reduction", reduction))
        self.norm = nn.LayerNorm(dim)
        self.first = CONV[dims](dim, dim, kernel, padding=kernel // 2)
        self.act = nn.LeakyReLU(0.2, inplace=True)
        self.second = CONV[dims](dim, dim, kernel, padding=kernel // 2)
        self.squeeze = nn.Linear(dim, squeezed)
        self.excite = nn.Linear(squeezed, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        y_BCS = self.second(self.act(self.first(to_first(self.norm(to_last(x_BCS))))))
        mean_BC = y_BCS.flatten(2).mean(-1, dtype=torch.promote_types(y_BCS.dtype, torch.float32))
        scale_BC = self.excite(self.squeeze(mean_BC.to(y_BCS.dtype)).relu()).sigmoid()
        return y_BCS * scale_BC.reshape(*scale_BC.shape, *(1,) * (x_BCS.ndim - 2))
