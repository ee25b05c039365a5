"""Every part of a space tried once, so that no wrong one waits inside it until a search draws it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from medsearch.backbones.blank import Blank
from medsearch.backbones.plan import (
    Call,
    Interface,
    channel_call,
    head_call,
    make,
    mirrored,
    part_call,
    plan,
    stage_plans,
)
from medsearch.blocks import DOWNSAMPLES, MIXERS, STEMS
from medsearch.blocks.knobs import per_axis
from medsearch.core.errors import SpaceError
from medsearch.spaces import Part, Space
from medsearch.spaces.tree import leaves_of, variants

_FREE_OF_WIDTH = set(
    "block differential dilation gate grid kernel norm op order pool regions se shift top_regions window".split()
)
"""Knobs whose legal values are the same at every width, so that one width is enough to try them."""


_EXTENTS = {"window", "block", "grid"}
"""Knobs that are edges in positions of the map."""


def check(space: Space, interface: Interface) -> None:
    """Make every part with every option of each of its knobs, at every width that it may have.

    Raises:
        SpaceError: naming the file, the place in it, what was seen and what is legal.
    """
    made: set[Call] = set()
    for where, call in _calls(space, interface):
        if call not in made:
            with Blank():
                make(call, where)
            made.add(call)
    if space.image is not None:
        _check_extents(space, interface, space.image)


def _check_extents(space: Space, interface: Interface, size: tuple[int, ...]) -> None:
    """Refuse windows, blocks and grids larger than the map of their stage, for a space that says its image size.

    Elsewhere an axis that is shorter is one window, which is a network of its own only on larger images.
    """
    first = space.first()
    planned = plan(first, interface, where=space.source)
    for i, (stage, calls) in enumerate(zip(space.tree["stages"], planned.stages, strict=True)):
        with Blank():
            size = (calls.down or planned.stem).make().scale(size)
        for role, node, path in _roles(stage, f"{space.source}: stages[{i}]"):
            for where, part in _parts(node, path) if role != "channel" else ():
                known = (MIXERS.knobs(part.name) if part.name in MIXERS else {}) | dict(part.knobs)
                for knob in _EXTENTS & set(known):
                    edges = per_axis(part.name, knob, known[knob], space.dims)
                    if any(edge > length for edge, length in zip(edges, size, strict=True)):
                        shape = "x".join(map(str, size))
                        problem = f"{part.name}: {knob} {known[knob]} is larger than the map of this stage, {shape}."
                        raise SpaceError(where, problem, f"The largest that fits is {min(size)}.")


def _calls(space: Space, interface: Interface) -> Iterator[tuple[str, Call]]:
    """Where each part is written, and the call that makes it."""
    dims, stages = space.dims, space.tree["stages"]
    before: list[int] = []
    for where, part in _parts(space.tree["stem"], f"{space.source}: stem"):
        for width in leaves_of(stages[0]["dim"]):
            yield where, part_call(STEMS, part, where, interface.channels, width, dims=dims)
    for i, stage in enumerate(stages):
        place, widths = f"{space.source}: stages[{i}]", leaves_of(stage["dim"])
        if stage["down"] is not None:
            for where, part in _parts(stage["down"], f"{place}.down"):
                for source, width in _pairs(before, widths):
                    yield where, part_call(DOWNSAMPLES, part, where, source, width, dims=dims)
        before = widths
        for role, node, path in _roles(stage, place):
            seen: dict[str, Part] = {}
            for where, part in _parts(node, path):
                known = seen.setdefault(part.name, part)
                for width in widths if _width_bears_on(part, known) else widths[:1]:
                    norms = _norms(stage) if width == widths[0] else _norms(stage)[:1]
                    yield from ((where, call) for call in _of_block(role, part, where, width, dims, norms))
    first = space.first()
    smallest = tuple(stage.dim for stage in first.stages)
    given: dict[str, Any] = {"dims": dims, "outputs": interface.outputs, "channels": interface.channels}
    given["blocks"] = mirrored(stage_plans(first, space.source))
    for where, part in _parts(space.tree["head"], f"{space.source}: heads.{interface.task}"):
        yield where, head_call(part, where, interface.task, smallest, **given)


def _width_bears_on(part: Part, first: Part) -> bool:
    """Whether a part must be tried at every width although ``first``, of the same name, is."""
    changed = {knob for knob, _ in set(part.knobs) ^ set(first.knobs)}
    return not changed or not changed <= _FREE_OF_WIDTH


def _of_block(role: str, part: Part, where: str, width: int, dims: int, norms: list[str]) -> Iterator[Call]:
    if role == "channel":
        yield from (channel_call(part, norm, where, width, dims) for norm in norms)
    elif role == "mixer" or part.name != "none":
        yield part_call(MIXERS, part, where, width, dims=dims)


def _parts(node: Any, where: str) -> Iterator[tuple[str, Part]]:
    for place, option in variants(node, where):
        yield place, Part.from_data(option, place)


def _roles(stage: dict[str, Any], place: str) -> Iterator[tuple[str, Any, str]]:
    """The parts of the blocks by role, each with its place."""
    places = [(stage, place)]
    for i, entry in enumerate(stage["cycle"]):
        places.append((entry, f"{place}.{'mixers' if set(entry) == {'mixer'} else 'blocks'}[{i}]"))
    for entry, inside in places:
        for role in ("position", "mixer", "local", "channel"):
            if role in entry:
                yield role, entry[role], inside if ".mixers[" in inside else f"{inside}.{role}"


def _norms(stage: dict[str, Any]) -> list[str]:
    """The norms that the stage's mixers may ask of its channel mixers."""
    nodes = [entry["mixer"] for entry in (stage, *stage["cycle"]) if "mixer" in entry]
    named = {option["name"] for node in nodes for _, option in variants(node, "")}
    return sorted({getattr(MIXERS[name], "NORM", "layer") for name in named if name in MIXERS})


def _pairs(sources: Iterable[int], targets: list[int]) -> Iterator[tuple[int, int]]:
    """Every width with the first one of the other side."""
    for i, source in enumerate(sources):
        yield from ((source, target) for target in (targets if i == 0 else targets[:1]))
