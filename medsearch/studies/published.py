"""``medsearch spaces verify``: every published architecture among the spaces, counted against its published numbers."""

from __future__ import annotations

from typing import Any

import torch

from medsearch.backbones import Interface, build
from medsearch.core.config import read_yaml
from medsearch.core.errors import SpaceError
from medsearch.core.library import find, names
from medsearch.core.units import format_count
from medsearch.measurement.macs import count
from medsearch.spaces import Space, load_space

TOLERANCE = 1e-3
"""How far multiply-adds may be from the published ones, which are printed with three or four digits."""


def points() -> list[str]:
    """The names of all spaces that stand for a published architecture."""
    return [name for name in names("spaces") if "published" in read_yaml(find("spaces", name))]


def read_point(name: str) -> Space:
    """The space called ``name``, with the head of the task that its published numbers are of."""
    published = read_yaml(find("spaces", name)).get("published")
    if not isinstance(published, dict):
        raise SpaceError(f"{name}: published", "is missing.", f"Known: {', '.join(points())}.")
    return load_space(name, task=published.get("task", "classification"))


def verify_published(name: str | None = None) -> list[dict[str, Any]]:
    """A row for every point, or for one; ``verdict`` is ``equal``, ``differs``, or ``-`` where no number is claimed."""
    return [_verified(read_point(known)) for known in ([name] if name else points())]


def _verified(space: Space) -> dict[str, Any]:
    known = space.published
    assert known is not None
    interface = Interface(task=known.task, channels=known.channels, outputs=known.outputs)
    with torch.device("meta"):
        model = build(space.first(), interface, where=space.source).eval()
        image = torch.empty(1, known.channels, *known.size)
        macs = count(lambda: model(image))
    parameters = sum(p.numel() for p in model.parameters())
    off = None if known.macs is None else macs / known.macs - 1
    equal = [parameters == known.expected] if known.expected is not None else []
    equal += [abs(off) <= TOLERANCE] if off is not None else []
    return {
        "point": space.name,
        "status": known.status,
        "parameters": f"{parameters:,}",
        "published": "-" if known.parameters is None else f"{known.parameters:,}",
        "without": " + ".join(f"{name} {number:,}" for name, number in known.without.items()) or "-",
        "MACs": format_count(macs),
        "off": "-" if off is None else f"{off:+.3%}",
        "verdict": ("equal" if all(equal) else "differs") if equal else "-",
        "differs in": known.differs or "-",
    }
