"""``medsearch doctor``: what this machine has, and how far predictions are from measurements on it."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import torch

from medsearch.core.units import format_bytes
from medsearch.measure.calibrate import Accuracy, calibrate
from medsearch.measure.cost import Conditions, CostModel
from medsearch.measure.device import Profile, cache_folder
from medsearch.run import Settings
from medsearch.spaces import Genotype
from medsearch.verbs.search import CALIBRATION_NETWORKS
from medsearch.verbs.setting import Setting, prepare

FIELDS = (
    "id",
    "mixers",
    "parameters",
    "macs",
    "memory_predicted",
    "memory_measured",
    "latency_predicted",
    "latency_measured",
)


def doctor(*, predictions: int | None, space: str | None, data: str | None, out: Path | None) -> list[dict[str, Any]]:
    """What the machine has; with ``predictions``, also that many random networks predicted and measured.

    Args:
        predictions: how many networks.
        space: where they are drawn from.
        data: whose image size and batch count.
        out: a CSV file that gets one row per network as each is measured; networks that it has are not measured again.
    """
    profile = Profile(threads=1, folder=cache_folder())
    if not predictions:
        return _machine(profile)
    setting = prepare(Settings(data=data, space=space, precision="fp32"))
    conditions = Conditions(size=setting.data.size, batch=setting.recipe.batch, precision="fp32")
    cost = CostModel(setting.interface, conditions, profile)
    rng = random.Random(0)
    drawn = [setting.space.sample(rng) for _ in range(CALIBRATION_NETWORKS + predictions)]
    calibrate(cost, drawn[:CALIBRATION_NETWORKS], setting.measured)
    rows = _read(out)
    for genotype in drawn[CALIBRATION_NETWORKS:]:
        if genotype.id not in {row["id"] for row in rows}:
            rows.append(_compare(cost, setting, genotype))
            _append(out, rows[-1])
    profile.save()
    return [
        {
            "quantity": name,
            "networks": found.networks,
            "median off by %": round(found.median_error_percent, 1),
            "95th percentile %": round(found.p95_error_percent, 1),
            "largest %": round(found.largest_error_percent, 1),
        }
        for name, found in _summaries(rows)
    ]


def _machine(profile: Profile) -> list[dict[str, Any]]:
    facts: dict[str, Any] = {**profile.device, "torch": torch.__version__}
    if torch.cuda.is_available():
        name, total = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        facts["gpu"] = f"{name}, {format_bytes(total)}"
        facts["training memory"] = "measured on the GPU's allocator"
    else:
        facts["gpu"] = "none that torch sees"
        facts["training memory"] = "predicted by tracing, measured on the CPU's allocator"
    facts["latency"] = f"measured: {len(profile.parts)} parts in {profile.path}"
    return [{"what": what, "here": str(value)} for what, value in facts.items()]


def _compare(cost: CostModel, setting: Setting, genotype: Genotype) -> dict[str, Any]:
    predicted, real = cost(genotype), setting.measured(genotype)
    return {
        "id": genotype.id,
        "mixers": "/".join(genotype.mixers),
        "parameters": int(predicted.parameters.value),
        "macs": int(predicted.macs.value),
        "memory_predicted": predicted.memory.value,
        "memory_measured": real.memory,
        "latency_predicted": predicted.latency.value,
        "latency_measured": real.latency,
    }


def _summaries(rows: list[dict[str, Any]]) -> list[tuple[str, Accuracy]]:
    return [
        (name, Accuracy.of(*([float(row[f"{name}_{how}"]) for row in rows] for how in ("predicted", "measured"))))
        for name in ("memory", "latency")
    ]


def _read(path: Path | None) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(path: Path | None, row: dict[str, Any]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if not begun:
            writer.writeheader()
        writer.writerow(row)
