"""Every part that the registries know, as the network would build and call it.

A test that takes ``any_part`` is asked of each of them, in 2D and in 3D if it takes ``dims``; one that takes
``any_mixer``, ``any_branch`` (mixers and channel mixers) or ``any_head`` of those.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from medsearch.testing import parts
from medsearch.testing.blocks import is_close
from medsearch.testing.parts import REGISTRIES
from oracles import macs

FIXTURES = {
    "any_part": tuple(REGISTRIES),
    "any_branch": ("mixer", "channel"),
    "any_mixer": ("mixer",),
    "any_head": ("head",),
}


class Part(parts.Part):
    """One entry of a registry, which knows what it costs."""

    def macs(self, module: nn.Module, size: tuple[int, ...]) -> int:
        """What the part costs by its formula."""
        return macs(module, self.sizes(size) if self.kind == "head" else size)


PARTS = [Part(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, kinds in FIXTURES.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, [part for part in PARTS if part.kind in kinds], ids=str)
            if "dims" in metafunc.fixturenames:
                metafunc.parametrize("dims", [2, 3])
    if "any_knob" in metafunc.fixturenames:
        knobs = [(part, knob) for part in PARTS for knob in part.defaults]
        metafunc.parametrize("any_knob", knobs, ids=[f"{part} {knob}" for part, knob in knobs])


@pytest.fixture
def close() -> Callable[..., bool]:
    """Equal up to ``tolerance`` times the largest value."""
    return is_close
