"""The products of linear attention: keys and values are summed up first, so that the cost is linear in positions.

Sources, by kernel: ``elu1`` Katharopoulos et al. 2020 (arXiv:2006.16236, eq. 7); ``relu`` L2ViT (Zheng 2025,
arXiv:2501.16182); ``efficient`` Efficient Attention (Shen et al. 2018, arXiv:1812.01243, eq. 3); ``swapped`` MSLAU-Net
(Lan et al. 2025, arXiv:2505.18823), which has the two softmaxes of Efficient Attention the other way round.  The
rotation of queries and keys over several axes is that of RoFormer (Su et al. 2021, arXiv:2104.09864, eq. 34), each axis
with its share of the width.
Shapes: B batch, H heads, N positions, D width of a head, P = D / 2 pairs of channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medsearch.blocks.nd import without_autocast

KERNELS = ("elu1", "relu", "efficient", "swapped")
LEAST_WEIGHT = 100.0
"""A smaller sum of weights counts as this one in L2ViT; a map of few positions is damped by it."""
ROTATION_BASE = 10_000.0

Rotation = tuple[Tensor, Tensor]


def refuse_what_cannot_turn(part: str, heads: int, head_dim: int, axes: int) -> None:
    """Pairs of channels turn, as many with every axis, and none lies across heads."""
    if head_dim % 2 == 0 and heads * head_dim % (2 * axes) == 0:
        return
    fitting = next(d for d in range(head_dim, head_dim + 2 * axes + 1) if d % 2 == 0 and heads * d % (2 * axes) == 0)
    raise ValueError(
        f"{part}: rotary needs an even head_dim and a width that is a multiple of {2 * axes}, "
        f"got {heads} heads of {head_dim}; try head_dim {fitting}"
    )


def linear_product(
    kernel: str,
    q_BHND: Tensor,
    k_BHND: Tensor,
    v_BHND: Tensor,
    *,
    rotation: Rotation | None = None,
    factor_H: Tensor | None = None,
) -> Tensor:
    """(B, H, N, D): what every query reads of the sum of k v^T over all positions.

    With a rotation R the sum is that of R(k) v^T and is read by R(q), while the weights that normalise it stay as they
    are.  Everything is done in float32 at least, in any precision around it.
    """
    wide = torch.promote_types(v_BHND.dtype, torch.float32)
    with without_autocast(v_BHND.device):
        q, k = _positive(kernel, q_BHND.to(wide), k_BHND.to(wide))
        weight = _weight(kernel, q, k)
        if rotation is not None:
            q, k = _rotated(q, rotation), _rotated(k, rotation)
        summary_BHDD = k.transpose(-1, -2) @ v_BHND.to(wide)
        if kernel == "elu1":
            summary_BHDD = summary_BHDD / k.shape[-2]
        if factor_H is not None:
            summary_BHDD = summary_BHDD * factor_H.to(wide).reshape(-1, 1, 1)
        y_BHND = q @ summary_BHDD
        return (y_BHND if weight is None else y_BHND / weight).to(v_BHND.dtype)


def axial_rotation(size: tuple[int, ...], heads: int, head_dim: int, like: Tensor) -> Rotation:
    """Cosines and sines (H, N, P): pair after pair of all heads' channels turns with the place along one axis.

    The first heads * head_dim / (2 * axes) pairs turn with the first axis, and so on, each from fast to slow.
    """
    each = heads * head_dim // (2 * len(size))
    wide = torch.promote_types(like.dtype, torch.float32)
    speed = ROTATION_BASE ** (-torch.arange(each, device=like.device, dtype=wide) / each)
    angles = []
    for axis, length in enumerate(size):
        shape = [length if other == axis else 1 for other in range(len(size))]
        place = torch.arange(length, device=like.device, dtype=wide).reshape(*shape, 1)
        angles.append((place * speed).expand(*size, each))
    angle_HNP = torch.cat(angles, dim=-1).reshape(-1, heads, head_dim // 2).transpose(0, 1)
    return angle_HNP.cos(), angle_HNP.sin()


def _positive(kernel: str, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    if kernel == "elu1":
        return F.elu(q) + 1, F.elu(k) + 1
    if kernel == "relu":
        return q.relu(), k.relu()
    over_channels, over_positions = (q, k) if kernel == "efficient" else (k, q)
    over_channels, over_positions = over_channels.softmax(dim=-1), over_positions.softmax(dim=-2)
    return (over_channels, over_positions) if kernel == "efficient" else (over_positions, over_channels)


def _weight(kernel: str, q: Tensor, k: Tensor) -> Tensor | None:
    """(B, H, N, 1): what to divide by; None where the softmaxes have done so."""
    if kernel == "elu1":
        return q @ k.mean(dim=-2).unsqueeze(-1) + 1e-6
    if kernel == "relu":
        return (q @ k.sum(dim=-2).unsqueeze(-1)).clamp_min(LEAST_WEIGHT)
    return None


def _rotated(x_BHND: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair of neighbouring channels."""
    cos_HNP, sin_HNP = rotation
    a, b = x_BHND.reshape(*x_BHND.shape[:-1], -1, 2).unbind(-1)
    return torch.stack((a * cos_HNP - b * sin_HNP, a * sin_HNP + b * cos_HNP), dim=-1).flatten(-2)
