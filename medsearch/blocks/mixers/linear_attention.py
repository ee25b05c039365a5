"""Linear attention: every position reads one summary of all keys and values, at a cost linear in their number.

Source: the kernel elu + 1 of Katharopoulos et al. 2020 (arXiv:2006.16236, eq. 7), and beside it a depthwise convolution
of the values (LePE of CSWin, Dong et al. 2022, arXiv:2107.00652): y_n = q_n (mean_m k_m v_m^T) / (q_n . mean_m k_m +
1e-6) + DW(v)_n.  What differs: means over the keys stand for sums, and they are taken in float32 in any precision, so
that half precision does not overflow.
Shapes: B batch, C channels, S spatial axes, H heads, N positions, D width of a head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.nd import head_shape, local_filter, to_first, to_last, without_autocast


@MIXERS.add("linear_attention")
class LinearAttention(nn.Module):
    """Mix all positions through one small matrix per head, and neighbours through a depthwise filter.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head.
        local: edge of the depthwise window on the values; odd, 0 for none.

    Cost, with inner = heads * head_dim: (4 * C + 2 * head_dim + 1 + local^dims) * inner multiply-adds per position.
    """

    FAMILY = "linear_attention"
    NORM = "layer"

    def __init__(self, dim: int, *, dims: int, heads: int | None = None, head_dim: int = 32, local: int = 3) -> None:
        super().__init__()
        self.heads, self.head_dim = head_shape("linear_attention", dim, heads, head_dim)
        inner = self.heads * self.head_dim
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * inner)
        self.local = local_filter("linear_attention", inner, dims, local)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        batch, size = x_BCS.shape[0], x_BCS.shape[2:]
        inner = self.heads * self.head_dim
        qkv_BSC = self.qkv(self.norm(to_last(x_BCS)))
        split = qkv_BSC.reshape(batch, -1, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        y_BHND = self._attend(*split.unbind(0))
        y_BSC = y_BHND.transpose(1, 2).reshape(batch, *size, inner)
        if self.local is not None:
            y_BSC = y_BSC + to_last(self.local(to_first(qkv_BSC[..., 2 * inner :])))
        return to_first(self.proj(y_BSC))

    def groups(self) -> dict[str, Group]:
        """The heads, each with the local filters of its values."""
        made = (Axis("qkv", unit=self.head_dim, repeats=3), Axis("local", unit=self.head_dim))
        return {"heads": Group(made, Axis("proj.weight", 1, unit=self.head_dim))}

    def _attend(self, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
        with without_autocast(q_BHND.device):
            q, k = F.elu(q_BHND.float()) + 1, F.elu(k_BHND.float()) + 1
            summary_BHDD = k.transpose(-1, -2) @ v_BHND.float() / k.shape[-2]
            weight_BHN1 = q @ k.mean(dim=-2).unsqueeze(-1) + 1e-6
            return (q @ summary_BHDD / weight_BHN1).to(v_BHND.dtype)
