"""A network brought to the state in which it is exported."""

from __future__ import annotations

import copy

import torch
from torch import nn


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in eval mode, its weights laid out in the default order whatever they were trained in."""
    network = copy.deepcopy(model).cpu().eval()
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    return network
