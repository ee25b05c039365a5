"""``medsearch doctor``: what this machine has, and how far predictions are from measurements on it."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medsearch.config import SearchConfig
from medsearch.core.errors import UsageError
from medsearch.core.files import append_row, read_rows
from medsearch.core.units import format_bytes
from medsearch.measurement.calibration import Accuracy, Measured, calibrate
from medsearch.measurement.costs import wanted
from medsearch.measurement.device import Profile
from medsearch.measurement.memory.processor import instructions
from medsearch.measurement.model import Conditions, CostModel
from medsearch.pipeline.operators import exercise
from medsearch.pipeline.profile import make_profile, profiled
from medsearch.pipeline.setup import CALIBRATION_NETWORKS, Setup, prepare, save_in_cache
from medsearch.spaces import Genotype
from medsearch.studies.feasibility import feasibility
from medsearch.targets import DEFAULT

FIELDS = (
    "id",
    "mixers",
    "parameters",
    "macs",
    "memory_predicted",
    "memory_measured",
    "latency_sum",
    "latency_predicted",
    "latency_low",
    "latency_high",
    "latency_measured",
)


CORRECTED = ("latency", "memory")
"""The costs whose predictions are judged."""
TOGETHER = 50
"""Networks that are timed in turns; then their rows are written."""


def doctor(
    *,
    predictions: int | None,
    space: str | None,
    data: str | None,
    out: Path | None,
    profile: bool = False,
    operators: bool = False,
    feasible: int | None = None,
    strategy: str = "tpe",
    threads: int = 1,
    target: str = DEFAULT,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """What the machine has; a profile of it; or, with ``predictions``, that many networks predicted and measured.

    Args:
        predictions: how many networks.
        space: where they are drawn from.
        data: whose image size and batch count.
        out: a CSV file that gets one row per network as each is measured; networks that it has are not measured again;
            with ``profile`` the JSON file of the profile, in place of the one in the cache.
        profile: time the parts of ``space`` on this device and remember them.
        operators: run every operator that training needs, in both precisions, and say which end their process.
        feasible: trials of a search under binding budgets, each measured.
        strategy: of that search.
        threads, target: that networks are timed with.
        say: told of every step of making a profile.
    """
    known = Profile(threads=threads, target=target, file=out if profile else None)
    if not (predictions or profile or operators or feasible):
        return _machine(known)
    if feasible and out is None:
        raise UsageError("doctor --feasibility", "where should the measured trials go?", "Name a CSV file with -o.")
    setup = prepare(SearchConfig(data=data, space=space, precision="fp32", target=target))
    if operators:
        return exercise(setup, known.device, say=say)
    if profile:
        return make_profile(setup, known, say=say)
    conditions = Conditions(size=setup.data.size, batch=setup.recipe.batch, precision="fp32", threads=threads)
    cost = CostModel(setup.interface, conditions, known, names=wanted(CORRECTED, ()), loss=setup.task.loss)
    rng = random.Random(0)
    drawn = [setup.space.sample(rng) for _ in range(CALIBRATION_NETWORKS + (predictions or 0))]
    first = drawn[:CALIBRATION_NETWORKS]
    measured = setup.measured(first, CORRECTED, cost.times.whole)
    calibrate(cost, first, measured, known=known.residuals.get(profiled(setup)))
    if feasible and out is not None:
        return feasibility(setup, cost, trials=feasible, strategy=strategy, out=out)
    rows = read_rows(out)
    seen = {row["id"] for row in rows}
    left = [genotype for genotype in drawn[CALIBRATION_NETWORKS:] if genotype.id not in seen]
    for start in range(0, len(left), TOGETHER):
        for row in _compare(cost, setup, left[start : start + TOGETHER]):
            rows.append(row)
            append_row(out, FIELDS, row)
    if unsaved := save_in_cache(known):
        say(unsaved)
    return summaries(rows)


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How far predictions were from measurements, and how far simpler ways to predict latency on the same networks.

    The baselines are given the best of chances: their scale is fitted to the very networks they are judged on.
    """
    column = {name: [float(row[name]) for row in rows] for name in FIELDS if name not in ("id", "mixers")}
    sums, real = column["latency_sum"], column["latency_measured"]
    held = [column[f"latency_{name}"] for name in ("low", "measured", "high")]
    ratio = statistics.median(found / total for found, total in zip(real, sums, strict=True))
    slope, start = statistics.linear_regression(column["macs"], real) if len(rows) > 1 else (0.0, real[0])
    ways = [
        ("memory", "medsearch", column["memory_predicted"], column["memory_measured"]),
        ("latency", "medsearch", column["latency_predicted"], real),
        ("latency", "sum of the table, scaled", [ratio * total for total in sums], real),
        ("latency", "line through multiply-adds", [start + slope * macs for macs in column["macs"]], real),
    ]
    inside = statistics.mean(low <= taken <= high for low, taken, high in zip(*held, strict=True))
    holds = ["", f"{100 * inside:.1f} %", "", ""]
    return [
        {"quantity": what, "by": how, **_errors(predicted, taken), "interval holds": share}
        for (what, how, predicted, taken), share in zip(ways, holds, strict=True)
    ]


def _errors(predicted: list[float], measured: list[float]) -> dict[str, Any]:
    found = Accuracy.of(predicted, measured)
    errors = [abs(p / m - 1) for p, m in zip(predicted, measured, strict=True)]
    return {
        "networks": found.networks,
        "mean error %": round(100 * statistics.mean(errors), 2),
        "median %": round(found.median_error_percent, 2),
        "95th percentile %": round(found.p95_error_percent, 2),
        "largest %": round(found.largest_error_percent, 1),
        "within 10 %": f"{100 * statistics.mean(error <= 0.1 for error in errors):.1f} %",
        "rank correlation": _rank_correlation(predicted, measured),
    }


def _rank_correlation(predicted: list[float], measured: list[float]) -> float | str:
    """Spearman's, equal values sharing their mean rank; empty where all values of a side are equal: it has none."""
    from scipy.stats import spearmanr  # takes most of a second, which only those wait who have predictions judged

    if len(set(predicted)) < 2 or len(set(measured)) < 2:
        return ""
    return round(float(spearmanr(predicted, measured).statistic), 4)


def _machine(profile: Profile) -> list[dict[str, Any]]:
    used = instructions()
    facts: dict[str, Any] = {**profile.device, "torch": used["torch"]}
    facts["instructions"] = f"torch computes with {used['aten']}; oneDNN finds {used['onednn'] or 'none it knows'}"
    if torch.cuda.is_available():
        name, total = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory
        facts["gpu"] = f"{name}, {format_bytes(total)}"
        facts["training memory"] = "measured on the GPU's allocator"
    else:
        facts["gpu"] = "none that torch sees"
        facts["training memory"] = "predicted by tracing, measured on the CPU's allocator"
    facts["latency"] = f"{len(profile.table.timings)} parts timed, in {profile.path}"
    for name, accuracy in profile.accuracy.items():
        error = accuracy.get("held_out_median_error_percent", math.nan)
        facts[f"profile of {name}"] = f"held-out median error {error:.1f} % over {accuracy.get('networks')} networks"
    return [{"what": what, "here": str(value)} for what, value in facts.items()]


def _compare(cost: CostModel, setup: Setup, genotypes: Sequence[Genotype]) -> list[dict[str, Any]]:
    found = setup.measured(genotypes, CORRECTED, cost.times.whole)
    return [_row(cost, genotype, real) for genotype, real in zip(genotypes, found, strict=True)]


def _row(cost: CostModel, genotype: Genotype, real: Measured) -> dict[str, Any]:
    predicted = cost(genotype)
    return {
        "id": genotype.id,
        "mixers": "/".join(genotype.mixers),
        "parameters": int(predicted["parameters"].value),
        "macs": int(predicted["macs"].value),
        "memory_predicted": predicted["memory"].value,
        "memory_measured": real["memory"],
        "latency_sum": cost.sums(genotype).latency,
        "latency_predicted": predicted["latency"].value,
        "latency_low": predicted["latency"].low,
        "latency_high": predicted["latency"].high,
        "latency_measured": real["latency"],
    }
