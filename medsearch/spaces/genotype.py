"""One architecture as frozen plain data: what is built, stored, compared and hashed.

A genotype says every block of every stage, so it can be built without the space it came from, and so that a pruned
network, whose blocks have widths of their own, is still a genotype.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medsearch.core.errors import SpaceError, suggest

Value = int | float | str | bool | None


@dataclass(frozen=True)
class Part:
    """A named building block and the knobs that are set on it; unset knobs keep their defaults."""

    name: str
    knobs: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(cls, name: str, /, **knobs: Value) -> Part:
        """``Part.of("dwconv", kernel=7)``."""
        return cls(name, tuple(sorted(knobs.items())))

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Part:
        """The part of checked fields: its ``name``, and knobs."""
        return cls(fields["name"], tuple(sorted((knob, value) for knob, value in fields.items() if knob != "name")))

    def having(self, **knobs: Value) -> Part:
        """The same part with these knobs set."""
        return Part.of(self.name, **{**dict(self.knobs), **knobs})

    def __str__(self) -> str:
        inner = ", ".join(f"{knob}={value}" for knob, value in self.knobs)
        return f"{self.name}({inner})" if inner else self.name

    def to_data(self) -> dict[str, Value]:
        """``{"name": "dwconv", "kernel": 7}``."""
        return {"name": self.name, **dict(self.knobs)}

    @classmethod
    def from_data(cls, data: Any, where: str) -> Part:
        """Inverse of :meth:`to_data`; SpaceError for anything that is not a name with plain values."""
        fields = _fields(data, where, required={"name"}, free=True)
        if not isinstance(fields["name"], str):
            raise SpaceError(f"{where}.name", f"expected a name, got {fields['name']!r}.")
        for knob, value in fields.items():
            if not is_value(value):
                raise SpaceError(f"{where}.{knob}", f"expected a single value, got {value!r}.")
        return cls.read(fields)


@dataclass(frozen=True)
class Block:
    """Residual branches in this order: a position encoding, a token mixer, a local mixer, a channel mixer.

    Args:
        mixer: mixes positions.
        channel: mixes channels; the part named ``none`` is no branch at all.
        residual: a residual around ``"each"`` of them, or one around all but the position encoding (``"joint"``).
        layer_scale: initial value of a learned factor per channel on the branches of mixer and channel mixer.
        position: a token mixer that comes first, such as a depthwise convolution; None for none.
        local: a second token mixer that follows the first; None for none.
    """

    mixer: Part
    channel: Part
    residual: str = "each"
    layer_scale: float | None = None
    position: Part | None = None
    local: Part | None = None

    def to_data(self) -> dict[str, Any]:
        """Plain data; what a block does not have is not mentioned."""
        extra = {"position": self.position, "local": self.local}
        return {
            "mixer": self.mixer.to_data(),
            "channel": self.channel.to_data(),
            "residual": self.residual,
            "layer_scale": self.layer_scale,
            **{role: part.to_data() for role, part in extra.items() if part is not None},
        }


@dataclass(frozen=True)
class Stage:
    """Blocks at one resolution; ``down`` leads into the stage (None for the first: the stem does)."""

    dim: int
    blocks: tuple[Block, ...]
    down: Part | None = None


@dataclass(frozen=True)
class Genotype:
    """One architecture: stem, stages and head, for 2 or 3 spatial axes."""

    dims: int
    stem: Part
    stages: tuple[Stage, ...]
    head: Part

    def to_data(self) -> dict[str, Any]:
        """Plain dictionaries, lists and values, ready for JSON."""
        return {
            "dims": self.dims,
            "stem": self.stem.to_data(),
            "stages": [
                {
                    "dim": stage.dim,
                    "down": stage.down.to_data() if stage.down else None,
                    "blocks": [block.to_data() for block in stage.blocks],
                }
                for stage in self.stages
            ],
            "head": self.head.to_data(),
        }

    @classmethod
    def from_data(cls, data: Any, where: str = "genotype") -> Genotype:
        """Inverse of :meth:`to_data`, for data from a file: anything out of shape is a SpaceError that says where."""
        fields = _fields(data, where, required={"dims", "stem", "stages", "head"})
        dims = fields["dims"]
        if type(dims) is not int or dims not in (2, 3):
            raise SpaceError(f"{where}.dims", f"expected 2 or 3, got {dims!r}.")
        stages = _list(fields["stages"], f"{where}.stages")
        return cls(
            dims=dims,
            stem=Part.from_data(fields["stem"], f"{where}.stem"),
            stages=tuple(_stage(stage, f"{where}.stages[{i}]", first=i == 0) for i, stage in enumerate(stages)),
            head=Part.from_data(fields["head"], f"{where}.head"),
        )

    @property
    def id(self) -> str:
        """Ten hex digits that depend on the architecture alone, the same on every machine."""
        canonical = json.dumps(self.to_data(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:10]

    @property
    def mixers(self) -> tuple[str, ...]:
        """The mixer names of each stage, for example ``("dwconv", "dwconv+window_attention", ...)``."""
        return tuple("+".join(dict.fromkeys(block.mixer.name for block in stage.blocks)) for stage in self.stages)


def _stage(data: Any, where: str, *, first: bool) -> Stage:
    fields = _fields(data, where, required={"dim", "blocks"}, optional={"down"})
    dim, down = fields["dim"], fields.get("down")
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise SpaceError(f"{where}.dim", f"expected a number of channels, at least 1, got {dim!r}.")
    if (down is None) != first:
        raise SpaceError(
            f"{where}.down", "the first stage has no downsampling (the stem leads in), every other has one."
        )
    blocks = _list(fields["blocks"], f"{where}.blocks", empty=True)
    return Stage(
        dim=dim,
        blocks=tuple(_block(block, f"{where}.blocks[{i}]") for i, block in enumerate(blocks)),
        down=None if down is None else Part.from_data(down, f"{where}.down"),
    )


def _block(data: Any, where: str) -> Block:
    optional = {"residual", "layer_scale", "position", "local"}
    fields = _fields(data, where, required={"mixer", "channel"}, optional=optional)
    residual, scale = fields.get("residual", "each"), fields.get("layer_scale")
    if residual not in ("each", "joint"):
        raise SpaceError(f"{where}.residual", f"expected 'each' or 'joint', got {residual!r}.")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or not _finite(scale)):
        raise SpaceError(f"{where}.layer_scale", f"expected a number, got {scale!r}.")
    parts = {
        role: Part.from_data(fields[role], f"{where}.{role}")
        for role in ("mixer", "channel", "position", "local")
        if fields.get(role) is not None
    }
    return Block(residual=residual, layer_scale=None if scale is None else float(scale), **parts)


def is_value(value: Any) -> bool:
    """Whether a knob can have this value: a number that is one, a text, a truth value or nothing."""
    return isinstance(value, int | float | str | None) and _finite(value)


def _finite(value: Value) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _fields(
    data: Any, where: str, *, required: set[str], optional: frozenset[str] | set[str] = frozenset(), free: bool = False
) -> dict[str, Any]:
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
        raise SpaceError(where, f"expected named values, got {data!r}.")
    for key in sorted(required - set(data)):
        raise SpaceError(where, f"'{key}' is missing.", f"Keys seen: {', '.join(sorted(data)) or '(none)'}.")
    if not free:
        for key in sorted(set(data) - required - optional):
            raise SpaceError(where, f"unknown key '{key}'.", suggest(key, required | optional))
    return dict(data)


def _list(data: Any, where: str, *, empty: bool = False) -> list[Any]:
    if not isinstance(data, list | tuple) or not (data or empty):
        raise SpaceError(where, f"expected a list, got {data!r}.")
    return list(data)
