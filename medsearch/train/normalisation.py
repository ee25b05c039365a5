"""Batch statistics that belong to averaged weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medsearch.data import Dataset

BATCHES = 8
"""Batches of training images that statistics are taken over."""


@torch.no_grad()
def recalibrate(model: nn.Module, data: Dataset, *, batch: int, batches: int = BATCHES) -> None:
    """Take the statistics of batch norms anew, over training images as they are, in place; nothing else changes.

    Averages of weights have seen no batch, and an average of the statistics of other weights is not theirs
    (Izmailov et al. 2018, arXiv:1803.05407, section 3.2).

    Args:
        model: its mode is kept.
        data: whose training split is looked at, evenly.
        batch: images at once.
        batches: how many of these at most.
    """
    norms = [norm for norm in model.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    mode, momenta = model.training, [norm.momentum for norm in norms]
    device = next(model.parameters()).device
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    count = min(len(data.train), batch * batches)
    rows = np.linspace(0, len(data.train) - 1, count).round().astype(int)
    rows = np.random.default_rng(0).permutation(rows)  # what stands together in a file is often alike
    for chosen in np.array_split(rows, max(1, round(count / batch))):
        model(torch.from_numpy(data.train.images[chosen]).to(device).float())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(mode)
