"""What is left of a layer's inputs takes over the work of those that are cut: ridge regression in closed form.

Source: the compensation of CORP (arXiv:2602.05243, section 3): the lost inputs are predicted from the kept ones,
x_P ~ B x_S + c with B = S_PS (S_SS + l I)^-1 over calibration images, and folded in, W_S += W_P B, b += W_P c.  What
differs: a layer without bias is fitted to second moments instead of covariances, and l is a share of their mean.
Shapes: I inputs of the layer, O outputs, S kept inputs, P = I - S lost ones, N samples (images times positions).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

RIDGE = 1e-2
"""l as a share of the mean diagonal of S_SS."""


@dataclass(kw_only=True)
class Moments:
    """Sums over what a layer was given, in float64."""

    first_I: Tensor
    second_II: Tensor
    samples: int = 0

    def add(self, x_NI: Tensor) -> None:
        """Take in another batch."""
        self.first_I += x_NI.sum(0, dtype=torch.float64)
        self.second_II += (x_NI.T @ x_NI).double()
        self.samples += len(x_NI)


@torch.no_grad()
def moments(model: nn.Module, layers: Collection[str], batches: Iterable[Tensor]) -> dict[str, Moments]:
    """What the named layers (linear, or 1 x 1 convolutions) are given while ``model`` sees ``batches``."""
    found, hooks = {}, []
    for name in layers:
        layer = model.get_submodule(name)
        width = layer.get_parameter("weight").shape[1]
        zeros = torch.zeros(width + 1, width, dtype=torch.float64)
        found[name] = Moments(first_I=zeros[0], second_II=zeros[1:])
        hooks.append(layer.register_forward_pre_hook(_adding_to(found[name])))
    for images in batches:
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def _adding_to(sums: Moments) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0] if isinstance(layer, nn.Linear) else inputs[0].movedim(1, -1)
        sums.add(x.reshape(-1, x.shape[-1]))

    return hook


def refit(weight_OI: Tensor, bias_O: Tensor | None, seen: Moments, kept_S: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weights (O, S) and bias for the ``kept_S`` inputs alone, nearest to the old outputs over what was ``seen``."""
    lost_P = torch.ones(weight_OI.shape[1], dtype=torch.bool)
    lost_P[kept_S] = False
    mean_I = seen.first_I / seen.samples if bias_O is not None else torch.zeros_like(seen.first_I)
    spread_SI = (seen.second_II / seen.samples - mean_I[:, None] * mean_I)[kept_S]
    spread_SS = spread_SI[:, kept_S]
    ridge = RIDGE * spread_SS.diagonal().mean().clamp_min(1e-12)
    predict_SP = torch.linalg.solve(spread_SS + ridge * torch.eye(len(kept_S)), spread_SI[:, lost_P])
    weight_OP = weight_OI[:, lost_P].double()
    new_OS = (weight_OI[:, kept_S] + weight_OP @ predict_SP.T).to(weight_OI.dtype)
    if bias_O is None:
        return new_OS, None
    return new_OS, (bias_O + weight_OP @ (mean_I[lost_P] - predict_SP.T @ mean_I[kept_S])).to(bias_O.dtype)


@torch.no_grad()
def refit_(layer: nn.Module, seen: Moments, kept_S: Tensor) -> None:
    """Let the ``kept_S`` inputs of a linear layer or 1 x 1 convolution take over, and clear the others."""
    weight = layer.get_parameter("weight")
    bias = layer.bias if isinstance(layer.bias, nn.Parameter) else None
    new_OS, new_O = refit(weight.flatten(1), bias, seen, kept_S)
    weight.zero_()
    weight[:, kept_S] = new_OS.reshape(len(new_OS), -1, *weight.shape[2:])
    if bias is not None and new_O is not None:
        bias.copy_(new_O)
