"""From genotype to network, by way of a plan: the constructor calls as data, which can be made, printed and measured.

The same plan builds the module, is the key under which the cost of a part is remembered, and is the source text of the
exported file, so the three cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from torch import nn

from medsearch.backbones.network import ROLES, Denoiser, Network, ResidualBlock, Stage, Standardize, laid_out
from medsearch.blocks import CHANNELS, DOWNSAMPLES, HEADS, MIXERS, STEMS
from medsearch.core.errors import SpaceError, suggest
from medsearch.core.registry import Registry
from medsearch.spaces import Block, Genotype, Part
from medsearch.tasks import head_tasks, task_type


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a network meets outside: the task, the image's channels and the number of outputs.

    What ``outputs`` are, the task says: classes, numbers, or the channels of an image that is given back.
    """

    task: str
    channels: int
    outputs: int


@dataclass(frozen=True)
class Call:
    """A constructor call: ``target(*args, **kwargs)`` with plain values, calls and lists of calls as arguments."""

    target: type[nn.Module]
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()

    def make(self) -> Any:
        """Make the module, and those inside it, with fresh weights."""
        return self.target(*map(_made, self.args), **{key: _made(value) for key, value in self.kwargs})

    def source(self, indent: int = 0, width: int = 110) -> str:
        """The call as Python text, on one line where it fits."""
        name = f"nn.{self.target.__name__}" if self.target.__module__.startswith("torch.") else self.target.__name__
        items = [_text(value, indent + 4) for value in self.args]
        items += [f"{key}={_text(value, indent + 4)}" for key, value in self.kwargs]
        line = f"{name}({', '.join(items)})"
        if len(line) + indent <= width and "\n" not in line:
            return line
        pad = " " * (indent + 4)
        return f"{name}(\n" + "".join(f"{pad}{item},\n" for item in items) + " " * indent + ")"


def _made(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_made(item) for item in value] if _calls(value) else value
    return value.make() if isinstance(value, Call) else value


def _calls(value: Any) -> bool:
    """Whether there is a call somewhere inside; such lists and tuples are made, and written, as lists."""
    return isinstance(value, Call) or (isinstance(value, list | tuple) and any(map(_calls, value)))


def _text(value: Any, indent: int) -> str:
    if isinstance(value, Call):
        return value.source(indent)
    if isinstance(value, list | tuple) and _calls(value):
        pad = " " * (indent + 4)
        return "[\n" + "".join(f"{pad}{_text(item, indent + 4)},\n" for item in value) + " " * indent + "]"
    return repr(value)


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """The calls of one stage: its downsampling, if any, and its blocks."""

    dim: int
    down: Call | None
    blocks: tuple[Call, ...]

    def call(self, *, down: bool = True) -> Call:
        """The stage as one call, on request without its downsampling."""
        first = (("down", self.down),) if down and self.down is not None else ()
        return Call(Stage, (self.dim,), (*first, ("blocks", self.blocks)))

    @cached_property
    def parts(self) -> tuple[Call, ...]:
        """What is measured for itself, in the order of the data: the downsampling, then every residual branch."""
        return tuple(part for some in self.steps for part in some)

    @cached_property
    def steps(self) -> tuple[tuple[Call, ...], ...]:
        """The same, the downsampling and each block for itself."""
        first = () if self.down is None else ((self.down,),)
        return (*first, *map(branch_calls, self.blocks))


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """The calls that make one network, part by part in the order of the data flow."""

    kind: type[Network]
    standardize: Call
    stem: Call
    stages: tuple[StagePlan, ...]
    head: Call

    def call(self) -> Call:
        """The whole network as one call."""
        stages = tuple(stage.call() for stage in self.stages)
        parts = (("standardize", self.standardize), ("stem", self.stem), ("stages", stages), ("head", self.head))
        return Call(self.kind, kwargs=parts)


def plan(genotype: Genotype, interface: Interface, *, where: str = "genotype") -> NetworkPlan:
    """Resolve every name and knob of ``genotype`` to constructor calls.

    A head that mirrors the encoder is given the calls of every stage's blocks, to make blocks of its own from them.

    Raises:
        SpaceError: for a part or knob that does not exist; a wrong knob *value* shows when the call is made.
    """
    dims = genotype.dims
    widths = tuple(stage.dim for stage in genotype.stages)
    stages = stage_plans(genotype, where)
    given: dict[str, Any] = {"dims": dims, "outputs": interface.outputs, "channels": interface.channels}
    given["blocks"] = mirrored(stages)
    return NetworkPlan(
        kind=Denoiser if task_type(interface.task).RESTORES else Network,
        standardize=Call(Standardize, (interface.channels,), (("dims", dims),)),
        stem=part_call(STEMS, genotype.stem, f"{where}: stem", interface.channels, widths[0], dims=dims),
        stages=stages,
        head=head_call(genotype.head, f"{where}: head", interface.task, widths, **given),
    )


def stage_plans(genotype: Genotype, where: str) -> tuple[StagePlan, ...]:
    """The calls of every stage."""
    stages, before, a_set = [], 0, False
    for i, stage in enumerate(genotype.stages):
        place, down = f"{where}: stages[{i}]", None
        if stage.down is not None:
            down = part_call(DOWNSAMPLES, stage.down, f"{place}.down", before, stage.dim, dims=genotype.dims)
            a_set = a_set or getattr(down.target, "LEAVES_A_SET", False)
        blocks = []
        for j, block in enumerate(stage.blocks):
            if a_set:
                _check_takes_a_set(block, f"{place}.blocks[{j}]")
            blocks.append(_block(block, stage.dim, genotype.dims, f"{place}.blocks[{j}]"))
        stages.append(StagePlan(dim=stage.dim, down=down, blocks=tuple(blocks)))
        before = stage.dim
    return tuple(stages)


def _check_takes_a_set(block: Block, where: str) -> None:
    """Refuse mixers that ask which positions are neighbours, where a downsampling has left none that are."""
    fitting = {name: mixer.ON_SETS for name, mixer in MIXERS.items() if hasattr(mixer, "ON_SETS")}
    for role in ("position", "mixer", "local"):
        part = getattr(block, role)
        if part is None:
            continue
        needed = fitting.get(part.name)
        if needed is None or any(
            dict(part.knobs).get(knob, MIXERS.knobs(part.name)[knob]) != at for knob, at in needed
        ):
            known = ", ".join(f"{name}({', '.join(f'{k}={v}' for k, v in needs)})" for name, needs in fitting.items())
            problem = f"{part} needs neighbours, and token reduction before it leaves a set."
            raise SpaceError(f"{where}.{role}", problem, f"Mixers of sets: {known}.")


def mirrored(stages: tuple[StagePlan, ...]) -> tuple[Call, ...]:
    """The calls of every stage without its downsampling, for a head that makes stages of its own from them."""
    return tuple(stage.call(down=False) for stage in stages)


def build(genotype: Genotype, interface: Interface, *, where: str = "genotype") -> Network:
    """Make the network of ``genotype`` with fresh weights.

    Raises:
        SpaceError: for an unknown part or knob, or a knob value that the part refuses.
    """
    return make(plan(genotype, interface, where=where).call(), where)


def make(call: Call, where: str) -> Any:
    """Make what ``call`` says; what a part refuses is a SpaceError at ``where``."""
    try:
        return call.make()
    except ValueError as refusal:
        raise SpaceError(where, str(refusal)) from refusal


def filled_roles(block: Block) -> tuple[str, ...]:
    """The roles of the parts that a block has in the network: one that adds nothing is left out."""
    parts = {role: getattr(block, role) for role in ROLES}
    return tuple(role for role, part in parts.items() if part is not None and not _adds_nothing(role, part))


@lru_cache(maxsize=4096)
def branch_calls(block: Call) -> tuple[Call, ...]:
    """Every residual branch of a block, in order, as a block of its own: the same computation, to be measured alone.

    Token mixers of all roles are alike there, so that equal branches are equal calls.
    """
    given = dict(block.kwargs)
    fixed = (("dims", given["dims"]),)
    scale = (("layer_scale", given["layer_scale"]),) if "layer_scale" in given else ()
    found = []
    for roles in laid_out(given, joint=given.get("joint", False)):
        if len(roles) > 1:
            parts = (*((role, given[role]) for role in roles), ("joint", True), *scale)
        elif roles[0] in ("position", "local"):
            parts = (("mixer", given[roles[0]]),)
        else:
            parts = ((roles[0], given[roles[0]]), *scale)
        found.append(Call(block.target, block.args, (*fixed, *parts)))
    return tuple(found)


def mirrors(genotype: Genotype) -> bool:
    """Whether the head has blocks of its own that mirror those of the stages."""
    return "blocks" in HEADS.given(genotype.head.name)


def _adds_nothing(role: str, part: Part) -> bool:
    registry = CHANNELS if role == "channel" else MIXERS
    return part.name in registry and getattr(registry[part.name], "ADDS_NOTHING", False)


def _block(block: Block, dim: int, dims: int, where: str) -> Call:
    roles = filled_roles(block)
    parts = tuple((role, _part(block, role, dim, dims, f"{where}.{role}")) for role in roles)
    together = [role for role in roles if role != "position"]
    joint = block.residual == "joint" and len(together) > 1
    scaled = block.layer_scale is not None and bool({"mixer", "channel"} & set(roles))
    scaled = scaled and not (joint and "local" in roles)
    joined = (("joint", True),) if joint else ()
    scale = (("layer_scale", block.layer_scale),) if scaled else ()
    return Call(ResidualBlock, (dim,), (("dims", dims), *parts, *joined, *scale))


def _part(block: Block, role: str, dim: int, dims: int, where: str) -> Call:
    if role != "channel":
        return part_call(MIXERS, getattr(block, role), where, dim, dims=dims)
    mixer = MIXERS.find(block.mixer.name, where=where.replace(role, "mixer"))
    return channel_call(block.channel, getattr(mixer, "NORM", "layer"), where, dim, dims)


def channel_call(part: Part, norm: str, where: str, dim: int, dims: int) -> Call:
    """The call of a channel mixer behind a mixer that goes with ``norm``; a norm that the part names itself stays."""
    CHANNELS.find(part.name, where=where)
    if "norm" not in dict(part.knobs) and "norm" in CHANNELS.knobs(part.name):
        part = part.having(norm=norm)
    return part_call(CHANNELS, part, where, dim, dims=dims)


def head_call(part: Part, where: str, task: str, *args: Any, **fixed: Any) -> Call:
    """The call of a head; SpaceError if it is not one for ``task``."""
    call = part_call(HEADS, part, where, *args, **fixed)
    heads: Mapping[str, Any] = HEADS
    served = set(head_tasks(task))
    if served.isdisjoint(heads[part.name].TASKS):
        fitting = [name for name, head in heads.items() if not served.isdisjoint(head.TASKS)]
        raise SpaceError(where, f"'{part.name}' is not a head for {task}.", suggest(part.name, fitting))
    return call


def part_call(registry: Registry, part: Part, where: str, *args: Any, **fixed: Any) -> Call:
    """The call of a part, given ``args`` and those of ``fixed`` that it asks for by the network; the rest are knobs."""
    target = registry.find(part.name, where=where)
    known = registry.knobs(part.name)
    for knob, _ in part.knobs:
        if knob not in known:
            raise SpaceError(f"{where}.{knob}", f"'{part.name}' has no knob '{knob}'.", suggest(knob, known))
    wanted = registry.given(part.name)
    kwargs = tuple((key, value) for key, value in fixed.items() if key in wanted)
    return Call(target, args, kwargs + part.knobs)
