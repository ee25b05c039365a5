"""What the stages of a network give, for whatever builds on it: channels and strides, under the names that timm has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_LONG = 10**9
"""Positions of an axis that no stride divides into few: what is left of them says the stride."""


@dataclass(frozen=True)
class FeatureInfo:
    """The maps that :meth:`medsearch.backbones.Network.features` gives, fine to coarse.

    Args:
        widths: channels of each.
        strides: image positions per position of the map, per axis; None where a token reduction has left no axes.
    """

    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...] | None, ...]

    @classmethod
    def read(cls, stem: Any, stages: Iterable[Any], *, dims: int) -> FeatureInfo:
        """What the parts between the image and the end of each stage say of themselves."""
        size: tuple[int, ...] | None = stem.scale((_LONG,) * dims)
        widths, strides = [], []
        for stage in stages:
            if stage.down is not None and size is not None:
                size = None if getattr(stage.down, "LEAVES_A_SET", False) else stage.down.scale(size)
            widths.append(stage.dim)
            strides.append(None if size is None else tuple(round(_LONG / length) for length in size))
        return cls(tuple(widths), tuple(strides))

    def channels(self) -> list[int]:
        """Channels of each map."""
        return list(self.widths)

    def reduction(self) -> list[int | tuple[int, ...] | None]:
        """Stride of each map: a number where all axes have the same, else one per axis; None as in ``strides``."""
        return [steps[0] if steps and len(set(steps)) == 1 else steps for steps in self.strides]

    def module_name(self) -> list[str]:
        """The name of each stage in the network."""
        return [f"stages.{i}" for i in range(len(self.widths))]
