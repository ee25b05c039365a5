"""``medsearch spaces``: what can be searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from medsearch.backbones import Interface
from medsearch.core.config import read_yaml
from medsearch.core.errors import UsageError
from medsearch.core.library import find, names
from medsearch.core.units import format_bytes, format_count
from medsearch.spaces import Published, Space, load_space


def spaces(action: str, name: str | None) -> list[dict[str, Any]]:
    """Rows for ``list`` (every shipped space), ``show`` (stages of one) or ``count`` (its architectures)."""
    if action == "list":
        return [_listed(known) for known in names("spaces")]
    if name is None:
        raise UsageError(f"spaces {action}", "which space?", f"Known: {', '.join(names('spaces'))}.")
    space = _read(name)
    if action == "count":
        return [{"space": space.name, "architectures": space.size(), "genes": len(space.genes())}]
    return _stages(space)


def _read(name: str) -> Space:
    tasks = read_yaml(find("spaces", name)).get("heads")
    task = next(iter(tasks)) if isinstance(tasks, dict) and tasks else "classification"
    return load_space(name, task=task)


def _listed(name: str) -> dict[str, Any]:
    space = _read(name)
    return {"space": name, "dims": f"{space.dims}D", "architectures": space.size(), "about": space.about}


def _stages(space: Space) -> list[dict[str, Any]]:
    """The genes; of a single architecture, its stages and what each costs."""
    if space.size() > 1:
        return [{"gene": gene, "options": " | ".join(map(str, options))} for gene, options in space.genes().items()]
    return _costs(space)


def _costs(space: Space) -> list[dict[str, Any]]:
    """One row a stage at the published input, or at 224 pixels (64 voxels in 3D), three channels and 1000 classes.

    ``keys`` is how many positions a query of the stage's mixers reads, ``memory`` what the stage keeps for the backward
    pass of one image in fp32 with its weights, gradients, their average and two moments; the total is the peak of the
    whole step.
    """
    import torch

    from medsearch.backbones import plan
    from medsearch.backbones.blank import Blank
    from medsearch.measurement.macs import count
    from medsearch.measurement.memory.peak import training_peak
    from medsearch.measurement.memory.step import StepMemory
    from medsearch.measurement.memory.trace import run_part

    known = space.published or _usual(space)
    interface = Interface(task=known.task, channels=known.channels, outputs=known.outputs)
    genotype = space.first()
    planned = plan(genotype, interface, where=space.source)
    chain = StepMemory(interface, known.size, batches=(2, 3)).chain(planned, batch=1, precision="fp32")
    footprints = iter(chain.parts[1:])
    rows, features = [], []
    with torch.device("meta"):
        x_BCS = torch.empty(1, known.channels, *known.size)
        image_BCS = x_BCS
        for i, (stage, calls) in enumerate(zip(genotype.stages, planned.stages, strict=True), start=1):
            row = _Row()
            for call in (planned.stem, *calls.parts) if i == 1 else calls.parts:
                with Blank():
                    module = call.make().eval()
                row.add(module, next(footprints), keys=keys_per_query(module, tuple(x_BCS.shape[2:])))
                row.macs += count(partial(module, x_BCS))
                with torch.no_grad():
                    x_BCS = module(x_BCS)
            features.append(x_BCS)
            shape = {"depth": len(stage.blocks), "dim": stage.dim, "tokens": x_BCS[0, 0].numel()}
            rows.append(row.shown(f"{i}", genotype.mixers[i - 1], shape))
        row = _Row()
        with Blank():
            module = planned.head.make().eval()
        row.add(module, next(footprints), keys=None)
        row.macs = count(lambda: run_part(module, [*features, image_BCS]))
        rows.append(row.shown("head", genotype.head.name, {}))
    total = {key: sum(row[key] for row in rows) for key in ("parameters", "MACs")}
    rows.append({**dict.fromkeys(rows[0], ""), "stage": "total", **total, "memory": training_peak(chain)})
    return [{**row, "MACs": format_count(row["MACs"]), "memory": format_bytes(row["memory"])} for row in rows]


def _usual(space: Space) -> Published:
    """The network that costs are shown for where none is published."""
    size = (224, 224) if space.dims == 2 else (64, 64, 64)
    return Published(source="", status="exact", size=size)


@dataclass
class _Row:
    """What the parts of a stage add up to."""

    parameters: int = 0
    macs: int = 0
    memory: int = 0
    keys: list[int] = field(default_factory=list)

    def add(self, module: Any, footprint: Any, *, keys: int | None) -> None:
        from medsearch.measurement.memory.peak import COPIES

        self.parameters += sum(p.numel() for p in module.parameters())
        self.memory += footprint.held + footprint.output + (COPIES + 1) * footprint.weights
        self.keys += [] if keys is None else [keys]

    def shown(self, stage: str, mixers: str, shape: dict[str, Any]) -> dict[str, Any]:
        """The row as people read it."""
        keys = " + ".join(map(str, dict.fromkeys(self.keys)))
        blank = {"depth": "", "dim": "", "tokens": ""}
        cost = {"keys": keys, "parameters": self.parameters, "MACs": self.macs, "memory": self.memory}
        return {"stage": stage, "mixers": mixers, **blank, **shape, **cost}


def keys_per_query(module: Any, size: tuple[int, ...]) -> int | None:
    """How many positions a query reads in the attention inside ``module``, on a map of ``size``; None without one."""
    found = [part.keys_per_query(size) for part in module.modules() if hasattr(part, "keys_per_query")]
    return found[0] if found else None
