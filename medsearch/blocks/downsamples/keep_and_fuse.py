"""Token reduction between the stages of a classifier: the tokens that matter go on, the others become one.

Source: EViT (Liang et al. 2022, arXiv:2202.07800, section 3.2 and eq. 3): of N tokens the ceil(keep N) with the largest
attention a_n are kept, and one more is the sum of a_n x_n over the rest.  What differs: EViT reads a_n from the class
token's attention, averaged over heads, in the middle of a block; a map has no class token, so here it is the softmax
over n of z_n . mean(z) / sqrt(C), z the tokens, normalised to mean 0 and variance 1 over their channels, between two
blocks.  Kept tokens stay in order; of equal ones the first are kept: every further position counts as less by a
millionth of what a_n could be before the softmax.
Shapes: B batch, C channels, S spatial axes, N tokens, M tokens that go on.
"""

from __future__ import annotations

from math import ceil, prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import DOWNSAMPLES
from medsearch.blocks.nd import to_first, to_last, without_autocast


@DOWNSAMPLES.add("keep_and_fuse")
class KeepAndFuse(nn.Module):
    """Keep the most important positions of a map and fuse all others into one: (B, C, *S) -> (B, C, M, 1[, 1]).

    What follows should treat positions as a set, as full attention does: neighbours in the result were not neighbours
    in the image.

    Args:
        in_dim: channels of the stage before.
        dim: channels of the stage behind; where the two differ, a linear map follows.
        dims: spatial axes, 2 or 3.
        keep: share of the positions that are kept, above 0 and at most 1.

    Cost: (2 - keep) * in_dim multiply-adds per position, and in_dim * dim per one that goes on where the two differ.
    """

    LEAVES_A_SET = True

    def __init__(self, in_dim: int, dim: int, *, dims: int, keep: float = 0.7) -> None:
        super().__init__()
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
            raise ValueError(f"keep_and_fuse: keep must be a share above 0 and at most 1, got {keep!r}; try 0.7")
        self.in_dim, self.dims, self.keep = in_dim, dims, keep
        self.project = nn.Identity() if in_dim == dim else nn.Linear(in_dim, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BNC = to_last(x_BCS).flatten(1, -2)
        kept = self._kept(x_BNC.shape[1])
        if kept < x_BNC.shape[1]:
            x_BNC = _kept_and_fused(x_BNC, kept)
        return to_first(self.project(x_BNC).unflatten(1, (-1, *[1] * (self.dims - 1))))

    def scale(self, size: tuple[int, ...]) -> tuple[int, ...]:
        tokens = prod(size)
        return (min(tokens, self._kept(tokens) + 1), *[1] * (self.dims - 1))

    def _kept(self, tokens: int) -> int:
        return ceil(self.keep * tokens - 1e-9)


def _kept_and_fused(x_BNC: Tensor, kept: int) -> Tensor:
    """(B, kept + 1, C): the most important tokens in order, then the weighted sum of the others."""
    exact = torch.promote_types(x_BNC.dtype, torch.float32)
    with without_autocast(x_BNC.device):
        z_BNC = F.layer_norm(x_BNC.to(exact), x_BNC.shape[2:])
        mean_BC = z_BNC.mean(dim=1)
        score_BN = (z_BNC @ mean_BC.unsqueeze(-1)).squeeze(-1) / z_BNC.shape[-1] ** 0.5
        order_BN = _in_order(score_BN.detach(), mean_BC.detach()).sort(dim=1, descending=True).indices
        first_BM, rest_BM = order_BN[:, :kept].sort(dim=1).values, order_BN[:, kept:]
        weight_BM = score_BN.softmax(dim=1).gather(1, rest_BM)
        fused_B1C = weight_BM.unsqueeze(1) @ _picked(x_BNC, rest_BM).to(exact)
    return torch.cat([_picked(x_BNC, first_BM), fused_B1C.to(x_BNC.dtype)], dim=1)


def _in_order(score_BN: Tensor, mean_BC: Tensor) -> Tensor:
    """Scores that fall with the position by more than rounding makes equal ones differ."""
    step_B1 = 1e-6 * mean_BC.square().sum(dim=1, keepdim=True).sqrt().clamp_min(1e-6)
    place_N = torch.arange(score_BN.shape[1], dtype=score_BN.dtype, device=score_BN.device)
    return score_BN - step_B1 * place_N


def _picked(x_BNC: Tensor, index_BM: Tensor) -> Tensor:
    return x_BNC.gather(1, index_BM.unsqueeze(-1).expand(-1, -1, x_BNC.shape[-1]))
