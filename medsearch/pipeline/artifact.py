"""The file of a network for a deployment target, compared with the network before anybody gets it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medsearch.core.errors import RefusedError
from medsearch.targets.target import Target, difference

TOLERANCE = 1e-3
"""Largest difference between an artifact and the network, relative to the largest output."""


def checked_artifact(network: nn.Module, images_NCS: np.ndarray, target: Target, *, where: str) -> tuple[bytes, float]:
    """The artifact of ``network`` for ``target``, and how far it is from the network on some raw images.

    Raises:
        RefusedError: if it does not compute what the network does, or cannot be made; ``where`` begins the message.
    """
    artifact = target.export(network, torch.zeros(1, *images_NCS.shape[1:]))
    found = difference(target, artifact, network, images_NCS)
    if found > TOLERANCE:
        raise RefusedError(where, f"its {target.suffix} file differs from the network by {found:.2g} of the output.")
    return artifact, found
