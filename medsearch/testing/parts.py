"""A part of a network as the network builds and calls it, with random numbers in the place of images."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import nn

from medsearch.blocks import CHANNELS, DOWNSAMPLES, HEADS, MIXERS, STEMS

REGISTRIES = {"mixer": MIXERS, "channel": CHANNELS, "stem": STEMS, "downsample": DOWNSAMPLES, "head": HEADS}
CHANNELS_IN, DIM, WIDTHS, OUTPUTS = 2, 12, (6, 10, 12), 3


@dataclass(frozen=True)
class Part:
    """One entry of a registry, the widths it is tested with, and values of its knobs other than the defaults."""

    kind: str
    name: str
    dim: int = DIM
    knobs: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def target(self) -> type[nn.Module]:
        """The class."""
        return REGISTRIES[self.kind][self.name]

    @property
    def defaults(self) -> dict[str, Any]:
        """The knobs with their defaults."""
        return REGISTRIES[self.kind].knobs(self.name)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stages that a head reads."""
        return tuple(width * self.dim // DIM for width in WIDTHS)

    def having(self, **knobs: Any) -> Part:
        """The same with other values of some knobs."""
        return replace(self, knobs=tuple({**dict(self.knobs), **knobs}.items()))

    def narrow(self) -> Part:
        """The part with a third fewer channels, for large maps."""
        return replace(self, dim=DIM * 2 // 3)

    def build(self, dims: int, target: type[nn.Module] | None = None) -> nn.Module:
        """The part, or another class in its place: what has no default is given as the network gives it, then knobs."""
        positional = {
            "stem": (CHANNELS_IN, self.dim),
            "downsample": (self.widths[1], self.dim),
            "head": (self.widths,),
        }
        given = {"dims": dims, "outputs": OUTPUTS, "channels": CHANNELS_IN, "blocks": self._blocks(dims)}
        kwargs = {key: given[key] for key in sorted(REGISTRIES[self.kind].given(self.name))}
        return (target or self.target)(*positional.get(self.kind, (self.dim,)), **kwargs, **dict(self.knobs))

    def _blocks(self, dims: int) -> list[nn.Module]:
        """For every stage a module that keeps its shape, with a plain part in it and one inside another."""
        if self.kind != "head":
            return []
        filters, mlp = MIXERS["dwconv"], CHANNELS["mlp"]
        parts = ((filters(width, dims=dims), nn.Sequential(mlp(width, dims=dims))) for width in self.widths)
        return [nn.Sequential(*level) for level in parts]

    def trained(self, dims: int) -> nn.Module:
        """No parameter and no statistic is at its starting value, where zeros and ones would hide mistakes."""
        module = self.build(dims)
        for parameter in module.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        for norm in (inner for inner in module.modules() if isinstance(inner, nn.BatchNorm2d | nn.BatchNorm3d)):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(std=0.2)
            norm.running_var.uniform_(0.5, 1.5)
        return module.eval()

    def sizes(self, size: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The maps a part is called with where the network's input, or the image of a head, has this size."""
        if self.kind != "head":
            return [size]
        halved = [tuple(math.ceil(length / 2 ** (level + 1)) for length in size) for level in range(len(WIDTHS))]
        return [*halved, size]

    def arguments(self, size: tuple[int, ...], batch: int = 2) -> tuple[Any, ...]:
        """What the network calls the part with: random numbers."""
        sizes = self.sizes(size)
        if self.kind == "head":
            features = [torch.randn(batch, width, *size) for width, size in zip(self.widths, sizes, strict=False)]
            return features, torch.randn(batch, CHANNELS_IN, *size)
        width = {"stem": CHANNELS_IN, "downsample": self.widths[1]}.get(self.kind, self.dim)
        return (torch.randn(batch, width, *size),)

    def config(self, dims: int) -> tuple[Part, ...]:
        """The part as it is, and with one knob at a time at another legal value: found by asking, not listed."""
        return (self, *_settings(self, dims))

    def others(self, knob: str, default: Any, dims: int) -> list[Any]:
        """Values that a knob might take, from its default or its annotation and, for names, from its refusal."""
        annotation = str(inspect.signature(self.target).parameters[knob].annotation)
        found: list[Any] = []
        if isinstance(default, bool):
            found = [not default]
        elif isinstance(default, float):
            found = [default / 2, default * 1.5]
        elif "int" in annotation:
            number = default if isinstance(default, int) else 4
            found = [number // 8, number - 2, 2 * number, number - 1, number + 1, number + 2, 1]
        if "str" in annotation and found:
            found.insert(0, "x".join("135"[:dims]))
        elif "str" in annotation:
            try:
                with torch.device("meta"):
                    self.having(**{knob: "nonsense"}).build(dims)
            except ValueError as refusal:
                found += re.findall(r"'([^']+)'", str(refusal).replace("'nonsense'", ""))
        return [value for value in dict.fromkeys(found) if value != default or type(value) is not type(default)]


@cache
def _settings(part: Part, dims: int) -> tuple[Part, ...]:
    found: list[Part] = []
    for knob, default in part.defaults.items():
        candidates = (part.having(**{knob: value}) for value in part.others(knob, default, dims))
        found += islice((other for other in candidates if _is_legal(other, dims)), 5 if isinstance(default, str) else 2)
    return tuple(found)


def _is_legal(part: Part, dims: int) -> bool:
    try:
        with torch.device("meta"):
            part.build(dims)
    except (ValueError, TypeError):
        return False
    return True
