"""A stem for images whose channels are measurements of their own, any of which may be missing: MR sequences, stains.

Source: ChannelViT (Bao et al. 2024, arXiv:2309.16108): one patch projection shared by all channels, a learned embedding
per channel added, and hierarchical channel sampling: in training m is drawn uniformly from 1 to the number of channels,
then m of them.  What differs: the tokens of the channels are fused into one map right away, by attention of one learned
query over the channels, so that the network behind costs what it does for one channel; the sample is drawn for every
image, not once per batch, and what is not in it is masked, not left out of the computation.
Shapes: B batch, K image channels, C channels, S spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsearch.blocks import STEMS
from medsearch.blocks.knobs import per_axis, yes_or_no
from medsearch.blocks.nd import pad_to_multiple, to_first, to_last, without_autocast
from medsearch.blocks.strides import patch_conv, shrunk

_MASKED = -1e4  # finite, so that masked gradients stay finite; its exponential is zero


@STEMS.add("per_channel")
class PerChannelStem(nn.Module):
    """Embed the patches of every image channel alike, and fuse them position by position.

    A query of zeros, the start, takes the mean of the channels.  ``stem(image, present=(0, 2))`` takes an image that
    has only these of the channels, in this order.

    Args:
        in_channels: channels K of the image.
        dim: channels of the first stage.
        dims: spatial axes, 2 or 3.
        patch: patch edge in image positions: a number, or one per axis as in "1x4x4".
        sample: leave out channels at random in training; in evaluation all are used.

    Cost: in_channels * dim * (patch^dims + 2) multiply-adds per patch.
    """

    def __init__(self, in_channels: int, dim: int, *, dims: int, patch: int | str = 4, sample: bool = True) -> None:
        super().__init__()
        self.window = per_axis("per_channel stem", "patch", patch, dims)
        self.sample = yes_or_no("per_channel stem", "sample", sample)
        self.dim = dim
        self.embed = patch_conv(1, dim, self.window)
        self.channel_KC = nn.Parameter(torch.empty(in_channels, dim))
        self.query_C = nn.Parameter(torch.zeros(dim))
        self.norm = nn.LayerNorm(dim)
        nn.init.trunc_normal_(self.channel_KC, std=0.02)

    def forward(self, x_BKS: Tensor, present: Sequence[int] | None = None) -> Tensor:
        channel_KC = self.channel_KC if present is None else self.channel_KC[list(present)]
        padded_BKS = to_first(pad_to_multiple(to_last(x_BKS), self.window))
        one_by_one = self.embed(padded_BKS.flatten(0, 1).unsqueeze(1)).unflatten(0, (-1, channel_KC.shape[0]))
        token_BSKC = one_by_one.movedim((1, 2), (-2, -1)) + channel_KC
        return to_first(self.norm(self._fused(token_BSKC)))

    def _fused(self, token_BSKC: Tensor) -> Tensor:
        """(B, *S, C): the mean of the channels' tokens, weighted by how well they answer the query."""
        exact = torch.promote_types(token_BSKC.dtype, torch.float32)
        with without_autocast(token_BSKC.device):
            token_BSKC = token_BSKC.to(exact)
            score_BSK = token_BSKC @ (self.query_C.to(exact) / self.dim**0.5)
            if self.sample and self.training:
                left_out_BK = _left_out(len(score_BSK), score_BSK.shape[-1], score_BSK.device)
                score_BSK = score_BSK + _MASKED * left_out_BK.unflatten(0, (-1, *[1] * len(self.window)))
            return (score_BSK.softmax(dim=-1).unsqueeze(-2) @ token_BSKC).squeeze(-2)

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return shrunk(size, self.window)


def _left_out(images: int, channels: int, device: torch.device) -> Tensor:
    """(B, K), 1 where a channel is not in the sample of its image and 0 where it is."""
    many_B1 = torch.randint(1, channels + 1, (images, 1), device=device)
    place_BK = torch.rand(images, channels, device=device).argsort(dim=1)
    return (place_BK >= many_B1).float()
