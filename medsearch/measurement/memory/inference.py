"""Peak memory of a forward pass of one image, measured."""

from __future__ import annotations

import torch
from torch import nn

from medsearch.data import Dataset
from medsearch.measurement.memory.peak import measured_peak


def forward_peak(network: nn.Module, data: Dataset) -> int:
    """Peak bytes of a forward pass of one image without gradients, weights and image included."""
    network.eval()
    image = blank_image(network, data)

    def forward() -> None:
        with torch.no_grad():
            network(image)

    forward()
    return measured_peak(forward, [*network.state_dict().values(), image], image.device)


def blank_image(network: nn.Module, data: Dataset) -> torch.Tensor:
    """One image of zeros, as ``network`` takes it, on its device."""
    return torch.zeros(1, data.channels, *data.size, device=next(network.parameters()).device)
