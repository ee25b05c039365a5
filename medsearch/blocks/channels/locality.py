"""A perceptron with a depthwise convolution and channel gates from the mean of the whole map.

Source: the locality feed-forward of LocalViT (Li et al. 2021, arXiv:2104.05707) in MedViTV2 (Manzari et al. 2025,
arXiv:2502.13693): BN(W2 SE(h(BN(DW(h(BN(W1 BN(x)))))))), h = h-swish, SE(u) = u * h-sigmoid(V2 ReLU(V1 mean(u))).
What differs: the release adds its normalised input to this once more, which ``shortcut`` does too; before it a
LayerNorm stands for the BatchNorm where the mixer has one.
Shapes: B batch, C channels, S spatial axes, N positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medsearch.blocks import CHANNELS
from medsearch.blocks.groups import Axis, Group
from medsearch.blocks.knobs import hidden_width, odd_kernel, one_of, whole_number, yes_or_no
from medsearch.blocks.nd import BATCH_NORM, CONV, depthwise
from medsearch.blocks.strides import map_norm


@CHANNELS.add("locality")
class LocalityMlp(nn.Module):
    """Mix channels and near neighbours, and weigh each hidden channel by a gate: C -> hidden -> gated -> C.

    Args:
        dim: channels C, kept.
        dims: spatial axes, 2 or 3.
        ratio: hidden width as a multiple of C.
        hidden: hidden width itself; overrides ``ratio``.
        kernel: edge of the depthwise window; odd; MedViTV2 has 7 in its first stage and 3 in the others.
        squeeze: width of the two-layer perceptron that makes the gates; MedViTV2's is its ratio.
        shortcut: add the normalised input to the result, as MedViTV2's release does.
        norm: ``"batch"`` or ``"layer"`` in front.

    Cost: (2 * C + kernel^dims) * hidden multiply-adds per position, and 2 * hidden * squeeze per image.
    """

    def __init__(
        self,
        dim: int,
        *,
        dims: int,
        ratio: float = 3.0,
        hidden: int | None = None,
        kernel: int = 3,
        squeeze: int = 3,
        shortcut: bool = False,
        norm: str = "layer",
    ) -> None:
        super().__init__()
        hidden = hidden_width("locality", dim, ratio, hidden)
        odd_kernel("locality", kernel)
        whole_number("locality", "squeeze", squeeze)
        one_of("locality", "norm", norm, ("layer", "batch"))
        self.shortcut = yes_or_no("locality", "shortcut", shortcut)
        conv, batch_norm = CONV[dims], BATCH_NORM[dims]
        self.norm = map_norm(norm, dim, dims)
        self.expand, self.expand_norm = conv(dim, hidden, 1, bias=False), batch_norm(hidden)
        self.filter = conv(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False)
        self.filter_norm = batch_norm(hidden)
        self.squeeze, self.excite = nn.Linear(hidden, squeeze), nn.Linear(squeeze, hidden)
        self.project, self.project_norm = conv(hidden, dim, 1, bias=False), batch_norm(dim)

    def forward(self, x_BCS: Tensor) -> Tensor:
        x_BCS = self.norm(x_BCS)
        hidden_BCS = F.hardswish(self.expand_norm(self.expand(x_BCS)))
        hidden_BCS = F.hardswish(self.filter_norm(depthwise(self.filter, hidden_BCS)))
        y_BCS = self.project_norm(self.project(hidden_BCS * self._gate(hidden_BCS)))
        return x_BCS + y_BCS if self.shortcut else y_BCS

    def groups(self) -> dict[str, Group]:
        """The hidden channels with their filters and gates."""
        made = tuple(map(Axis, ("expand", "expand_norm", "filter", "filter_norm", "excite")))
        return {"hidden": Group((*made, Axis("squeeze.weight", 1)), Axis("project.weight", 1))}

    def _gate(self, hidden_BCS: Tensor) -> Tensor:
        """(B, hidden, 1, ...): the mean in at least single precision, through the small perceptron."""
        exact = torch.promote_types(hidden_BCS.dtype, torch.float32)
        mean_BC = hidden_BCS.flatten(2).mean(dim=2, dtype=exact)
        gate_BC = F.hardsigmoid(self.excite(F.relu(self.squeeze(mean_BC))))
        return gate_BC.reshape(*gate_BC.shape, *[1] * (hidden_BCS.ndim - 2))
