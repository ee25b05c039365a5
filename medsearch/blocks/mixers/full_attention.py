"""Full attention: softmax attention in which every position reads every other.

Source: the self-attention of ViT (Dosovitskiy et al. 2021, arXiv:2010.11929, appendix A).  What differs: a depthwise
convolution of the values tells positions apart (LePE of CSWin, arXiv:2107.00652; MedFormer, arXiv:2507.02488, has it 5
wide); with ``local=0`` position has to come from elsewhere, as in ViT.
Shapes: B batch, C channels, S spatial axes, N positions, H heads, D width of a head.
"""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.attention import Projections, SoftmaxProduct, attention_heads
from medsearch.blocks.groups import Group
from medsearch.blocks.nd import to_first, to_last


@MIXERS.add("full_attention")
class FullAttention(nn.Module):
    """Mix all positions of the map.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        heads: number of heads; None gives as many of ``head_dim`` as fit in C.
        head_dim: width of a head; None gives 32, or C / heads where ``heads`` is given.
        qk_dim: width of a head's queries and keys; None gives them ``head_dim``.
        bias: whether queries, keys and values have a bias.
        scale: ``"head"`` divides scores by the root of the width of a head's queries, ``"full"`` by that of C.
        select: a query keeps one in ``select`` of all positions; 1 keeps all.
        least: fewest positions kept.
        differential: the difference of two maps of half the width each, as in Differential Transformer.
        lambda_init: starting weight of the subtracted map, at least 0 and below 1.
        gate: multiply the result by the SiLU of a projection of the normed input.
        local: edge of a depthwise window on the values, added to the result; odd, 0 for none.

    Cost, with inner = heads * head_dim: (4 * C + 2 * N + local^dims) * inner multiply-adds per position; a gate adds
    C * inner.
    """

    FAMILY = "full_attention"
    NORM = "layer"
    ON_SETS = (("local", 0),)

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        heads: int | None = None,
        head_dim: int | None = None,
        qk_dim: int | None = None,
        bias: bool = True,
        scale: str = "head",
        select: int = 1,
        least: int = 8,
        differential: bool = False,
        lambda_init: float = 0.5,
        gate: bool = False,
        local: int = 3,
    ) -> None:
        super().__init__()
        part = "full_attention"
        shape = attention_heads(part, dim, heads, head_dim, qk_dim, differential=differential)
        self.project = Projections(part, dim, shape, dims=dims, bias=bias, gate=gate, local=local)
        self.product = SoftmaxProduct(
            part,
            dim,
            shape,
            scale=scale,
            select=select,
            least=least,
            differential=differential,
            lambda_init=lambda_init,
        )

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BSC = self.project.norm(to_last(x_BCS))
        q, k, v = self.project(x_BSC)
        q_BHNQ, k_BHNQ, v_BHND = (part.flatten(1, -3).transpose(1, 2) for part in (q, k, v))
        y_BNHD = self.product(q_BHNQ, k_BHNQ, v_BHND).transpose(1, 2)
        return to_first(self.project.leave(y_BNHD.reshape(v.flatten(-2).shape), x_BSC, v.flatten(-2)))

    def groups(self) -> dict[str, Group]:
        """The heads."""
        return {"heads": self.project.group("project")}

    def keys_per_query(self, size: tuple[int, ...]) -> int:
        """How many positions a query reads on a map of ``size``."""
        return self.product.kept(prod(size))
