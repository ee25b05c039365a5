"""Which entries of a part's tensors belong to one prunable unit, said by the part itself as plain data."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Axis(NamedTuple):
    """An axis on which units lie: ``repeats`` runs of all units, each unit ``unit`` entries long.

    ``name`` is a tensor of the part, or a module of it, whose every tensor is meant.  The rows of a fused
    query-key-value layer are ``Axis("qkv", unit=head_dim, repeats=3)``.
    """

    name: str
    axis: int = 0
    unit: int = 1
    repeats: int = 1

    def units(self, length: int) -> int:
        """How many units an axis of this length holds."""
        return length // (self.unit * self.repeats)

    def entries(self, units: int, chosen: Tensor) -> Tensor:
        """Positions on the axis of the ``chosen`` ones among ``units`` units."""
        start_RU1 = ((torch.arange(self.repeats) * units)[:, None] + chosen)[..., None] * self.unit
        return (start_RU1 + torch.arange(self.unit)).reshape(-1)


class Group(NamedTuple):
    """The units that one knob counts: what makes their values, and the weight of the one layer that reads them."""

    made: tuple[Axis, ...]
    read: Axis
