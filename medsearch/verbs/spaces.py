"""``medsearch spaces``: what can be searched."""

from __future__ import annotations

from typing import Any

from medsearch.backbones import Interface
from medsearch.core.config import read_yaml
from medsearch.core.errors import UsageError
from medsearch.core.library import find, names
from medsearch.core.units import format_count
from medsearch.spaces import Space
from medsearch.verbs.setting import read_named_space


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
    return read_named_space(name, task=task)


def _listed(name: str) -> dict[str, Any]:
    space = _read(name)
    return {"space": name, "dims": f"{space.dims}D", "architectures": space.size(), "about": space.about}


def _stages(space: Space) -> list[dict[str, Any]]:
    """One row a stage; a single architecture with what it costs at 224 pixels (64 voxels in 3D) and 1000 classes."""
    if space.size() > 1:
        return [{"gene": gene, "options": " | ".join(map(str, options))} for gene, options in space.genes().items()]
    return _costs(space)


def _costs(space: Space) -> list[dict[str, Any]]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from medsearch.backbones import plan

    genotype = space.first()
    size = (224, 224) if space.dims == 2 else (64, 64, 64)
    planned = plan(genotype, Interface(task="classification", channels=3, outputs=1000))
    rows = []
    with torch.device("meta"), torch.no_grad():
        x_BCS = torch.empty(1, 3, *size)
        features = []
        for i, (stage, calls) in enumerate(zip(genotype.stages, planned.stages, strict=True), start=1):
            modules = [call.make().eval() for call in ((planned.stem, *calls) if i == 1 else calls)]
            with FlopCounterMode(display=False) as counter:
                for module in modules:
                    x_BCS = module(x_BCS)
            features.append(x_BCS)
            rows.append(
                {
                    "stage": i,
                    "mixers": genotype.mixers[i - 1],
                    "depth": len(stage.blocks),
                    "dim": stage.dim,
                    "tokens": x_BCS[0, 0].numel(),
                    "parameters": sum(p.numel() for module in modules for p in module.parameters()),
                    "MACs": counter.get_total_flops() // 2,
                }
            )
        head = planned.head.make()
        with FlopCounterMode(display=False) as counter:
            head(features, torch.empty(1, 3, *size))
        rows.append(_row("head", genotype.head.name, head, counter.get_total_flops() // 2))
    total = {key: sum(row[key] for row in rows) for key in ("parameters", "MACs")}
    rows.append({**dict.fromkeys(rows[0], ""), "stage": "total", **total})
    return [{**row, "MACs": format_count(row["MACs"])} for row in rows]


def _row(stage: str, name: str, module: Any, macs: int) -> dict[str, Any]:
    parameters = sum(p.numel() for p in module.parameters())
    blank = {"depth": "", "dim": "", "tokens": ""}
    return {"stage": stage, "mixers": name, **blank, "parameters": parameters, "MACs": macs}
