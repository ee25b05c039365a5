"""Where the prunable units of a network are, what each costs, and how to cut them out of genotype and weights alike."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medsearch.backbones import Interface, Network, build
from medsearch.backbones.network import ROLES
from medsearch.backbones.plan import filled_roles, mirrors
from medsearch.blocks.groups import Axis, Group
from medsearch.spaces import Genotype
from medsearch.spaces.genotype import Value

Position = tuple[int, int]
"""Stage and block, counted from 0."""

_BLOCK = re.compile(r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\.")


class Place(NamedTuple):
    """A part of a genotype: stage and block, and ``"position"``, ``"mixer"``, ``"local"`` or ``"channel"``."""

    at: Position
    role: str


@dataclass(frozen=True, kw_only=True)
class Units:
    """The units of one part that one knob counts, for example the hidden channels of an mlp.

    Args:
        place: the part in the genotype.
        path: the part's name in the network.
        knob: the knob that counts them.
        group: what belongs to a unit.
        count: how many there are.
    """

    place: Place
    path: str
    knob: str
    group: Group
    count: int

    @property
    def reader(self) -> str:
        """The name in the network of the layer that reads their values."""
        return f"{self.path}.{self.group.read.name.removesuffix('.weight')}"


def positions(genotype: Genotype) -> list[Position]:
    """Stage and block of every block, in the order of the data."""
    return [(i, j) for i, stage in enumerate(genotype.stages) for j in range(len(stage.blocks))]


def paths(genotype: Genotype) -> dict[Place, str]:
    """The name in the network of every part of every block, in the order of the data."""
    return {
        Place((i, j), role): f"stages.{i}.blocks.{j}.{role}"
        for i, j in positions(genotype)
        for role in filled_roles(genotype.stages[i].blocks[j])
    }


def units(model: Network, genotype: Genotype) -> list[Units]:
    """Everything that can be pruned inside the blocks of ``model``: nothing where the head mirrors the blocks."""
    found: list[Units] = []
    if mirrors(genotype):
        return found
    for place, path in paths(genotype).items():
        part = model.get_submodule(path)
        for knob, group in getattr(part, "groups", dict)().items():
            length = model.get_parameter(f"{path}.{group.read.name}").shape[group.read.axis]
            found.append(Units(place=place, path=path, knob=knob, group=group, count=group.read.units(length)))
    return found


def with_knobs(
    genotype: Genotype, knobs: Mapping[Place, Mapping[str, Value]], dropped: Collection[Position] = ()
) -> Genotype:
    """The genotype with these knobs set, and without the blocks at ``dropped``."""
    stages = []
    for i, stage in enumerate(genotype.stages):
        blocks = []
        for j, block in enumerate(stage.blocks):
            filled = {role: getattr(block, role) for role in ROLES}
            parts = {
                role: part.having(**knobs.get(Place((i, j), role), {}))
                for role, part in filled.items()
                if part is not None
            }
            if (i, j) not in dropped:
                blocks.append(replace(block, **parts))
        stages.append(replace(stage, blocks=tuple(blocks)))
    return replace(genotype, stages=tuple(stages))


def with_counts(genotype: Genotype, counts: Mapping[Units, int], dropped: Collection[Position] = ()) -> Genotype:
    """The genotype with these numbers of units, and without the blocks at ``dropped``."""
    knobs: dict[Place, dict[str, Value]] = {}
    for unit, count in counts.items():
        width: dict[str, Value] = {"head_dim": unit.group.read.unit} if unit.knob == "heads" else {}
        knobs.setdefault(unit.place, {}).update(width | {unit.knob: count})
    return with_knobs(genotype, knobs, dropped)


def cut(
    model: Network,
    genotype: Genotype,
    interface: Interface,
    kept: Mapping[Units, Tensor],
    dropped: Collection[Position] = (),
) -> tuple[Network, Genotype]:
    """A new, smaller network with the weights of the ``kept`` units, and its genotype.

    It computes what ``model`` would with the values of the other units at zero, if no norm lies across the units.
    """
    state = dict(model.state_dict())
    for unit, chosen in kept.items():
        for axis in (*unit.group.made, unit.group.read):
            for name in _tensors(state, f"{unit.path}.{axis.name}", axis):
                state[name] = state[name].index_select(axis.axis, axis.entries(unit.count, chosen))
    smaller = with_counts(genotype, {unit: len(chosen) for unit, chosen in kept.items()}, dropped)
    result = build(smaller, interface)
    result.load_state_dict(_renamed(state, dropped))
    return result.eval(), smaller


def _tensors(state: Mapping[str, Tensor], name: str, axis: Axis) -> list[str]:
    """The tensor ``name``, or every tensor of the module ``name`` that has the axis."""
    return [key for key in state if (key == name or key.startswith(f"{name}.")) and state[key].ndim > axis.axis]


def _renamed(state: Mapping[str, Tensor], dropped: Collection[Position]) -> dict[str, Tensor]:
    """The weights under the names they have without the dropped blocks."""
    renamed = {}
    for name, tensor in state.items():
        match = _BLOCK.match(name)
        if match is None:
            renamed[name] = tensor
            continue
        i, j = int(match["stage"]), int(match["block"])
        if (i, j) not in dropped:
            before = sum((i, earlier) in dropped for earlier in range(j))
            renamed[f"stages.{i}.blocks.{j - before}.{name[match.end() :]}"] = tensor
    return renamed


def macs(genotype: Genotype, interface: Interface, size: tuple[int, ...]) -> int:
    """Multiply-adds of convolutions and matrix products for one image, counted without computing."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build(genotype, interface).eval()(torch.empty(1, interface.channels, *size))
    return counter.get_total_flops() // 2


def macs_per_unit(
    found: Collection[Units], genotype: Genotype, interface: Interface, size: tuple[int, ...]
) -> dict[Units, float]:
    """What one unit of each kind costs: the slope between all of them and one."""
    whole = macs(genotype, interface, size)
    return {
        unit: (whole - macs(with_counts(genotype, {unit: 1}), interface, size)) / (unit.count - 1)
        for unit in found
        if unit.count > 1
    }
