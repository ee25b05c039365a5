"""A realistic result of a search, as a run directory holds it."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from medsearch.tasks.kinds.classification import Classification

MIXERS = ["dwconv", "linear_attention", "window_attention", "region_topk_attention", "block_gmlp", "grid_gmlp"]


def trial(number: int, rng: random.Random) -> dict[str, Any]:
    stages = [rng.choice(MIXERS) if rng.random() < 0.6 else "dwconv" for _ in range(4)]
    foreign = sum(mixer != "dwconv" for mixer in stages)
    latency = rng.uniform(0.3, 0.9) * (1 + 0.35 * foreign)
    rungs = 0 if number == 7 else 1 if rng.random() < 0.4 else 2
    error = 0.05 + 0.06 / latency**0.7 + rng.uniform(0, 0.08) + (0.1 if rungs == 1 else 0)
    return {
        "number": number,
        "id": f"{rng.getrandbits(40):010x}",
        "mixers": stages,
        "costs": {
            "latency": {"predicted": latency, "unit": "ms"},
            "memory": {"predicted": int(latency * 2.2e8 + 1.1e8 * foreign), "unit": "bytes"},
            "parameters": {"predicted": int(latency * 900_000), "unit": "parameters"},
            "macs": {"predicted": int(latency * 4.1e7), "unit": "MAC"},
        },
        "error": error if rungs else None,
        "metrics": {} if not rungs else {"accuracy": 1 - error, "auc": 1 - error / 4},
        "epochs": [None, 2.0, 8.0][rungs],
        "rungs": rungs,
        "state": "complete" if rungs else "failed",
        "front": False,
    }


def mark_front(trials: list[dict[str, Any]]) -> None:
    done = [t for t in trials if t["state"] == "complete"]

    def objectives(t: dict[str, Any]) -> list[float]:
        return [t["error"], *(t["costs"][name]["predicted"] for name in ("latency", "memory"))]

    for t in done:
        better = (all(a <= b for a, b in zip(objectives(o), objectives(t), strict=True)) for o in done if o is not t)
        t["front"] = not any(better)


def measured(name: str, *, predicted: float, unit: str) -> dict[str, Any]:
    low, high, real = {"latency": (0.93, 1.08, 1.04), "memory": (0.97, 1.03, 0.99)}.get(name, (1, 1, 1))
    ends = {"low": predicted * low, "high": predicted * high}
    return {"predicted": predicted, **ends, "measured": predicted * real, "unit": unit}


def deliver(t: dict[str, Any], *, best: bool) -> dict[str, Any]:
    error = t["error"] * 0.55
    return {
        **{key: t[key] for key in ("id", "mixers")},
        "error": error,
        "validation": {"accuracy": 1 - error, "auc": 1 - error / 5},
        "test": {"accuracy": 1 - error - 0.008, "auc": 1 - error / 5 - 0.002},
        "best": best,
        "costs": {name: measured(name, **cost) for name, cost in t["costs"].items()},
        "onnx_bytes": t["costs"]["parameters"]["predicted"] * 4 + 20_000,
        "within_budget": True,
        "epochs": 40,
        "seconds": 61.5,
        "folder": f"models/{t['id']}",
        "notes": ["exported module and ONNX file agree with the trained network"],
    }


def search_results() -> dict[str, Any]:
    rng = random.Random(3)
    trials = [trial(number, rng) for number in range(60)]
    mark_front(trials)
    front = sorted((t for t in trials if t["front"]), key=lambda t: t["error"])[:5]
    return {
        "name": "cells-demo",
        "command": "medsearch search --data bccd_cells3_64 --budget-mem 1GB --budget-latency 2.5ms -o runs/cells-demo",
        "version": "0.1.0",
        "created": "2026-08-21T10:15:00+00:00",
        "seed": 0,
        "seconds": {"profile": 41.2, "search": 512.4, "training": 301.9, "total": 861.0},
        "data": {
            "name": "bccd_cells3_64",
            "source": "BCCD, blood cell photographs",
            "task": "classification",
            "dims": 2,
            "size": [64, 64],
            "channels": 3,
            "classes": ["RBC", "WBC", "platelet"],
            "counts": {"train": 1200, "val": 300, "test": 400},
            "sha256": "ab" * 32,
        },
        "primary": "accuracy",
        "objectives": ["latency", "memory"],
        "metrics": {name: metric.to_data() for name, metric in Classification.METRICS.items()},
        "error_label": "1 − accuracy",
        "space": {"name": "hybrid2d-tiny", "architectures": 123_456_789_012},
        "recipe": {"epochs_search": 8, "epochs_full": 40, "batch": 64, "precision": "bf16", "learning_rate": 0.004},
        "budgets": [
            {"name": "memory", "limit": 1e9, "unit": "bytes", "conditions": "one training step, batch 64, bf16"},
            {"name": "latency", "limit": 2.5, "unit": "ms", "conditions": "ONNX Runtime, CPU, batch 1, 1 thread"},
        ],
        "machine": {
            "cpu": "Example CPU",
            "cores": 2,
            "threads": 1,
            "os": "Linux 6.1",
            "python": "3.11.9",
            "torch": "2.13.0",
            "onnxruntime": "1.32.0",
            "device": "cpu",
        },
        "trials": trials,
        "proposals": {"drawn": 240, "repaired": 71, "resampled": 12, "trials_over_budget": 0},
        "prediction": {
            "latency": {
                "networks": 5,
                "median_error_percent": 3.1,
                "p95_error_percent": 9.04,
                "largest_error_percent": 12.4,
            },
            "memory": {
                "networks": 5,
                "median_error_percent": 0.8,
                "p95_error_percent": 1.2,
                "largest_error_percent": 1.3,
            },
        },
        "delivered": [deliver(t, best=index == 0) for index, t in enumerate(front)],
        "refused": [{"id": "00ff00ff00", "reason": "the ONNX file differed from the network by 0.02"}],
        "remarks": ["Validation and test sets are small: differences below 2 points mean little."],
        "commands": ["medsearch search --resume runs/cells-demo", "medsearch report runs/cells-demo"],
    }


def empty_results() -> dict[str, Any]:
    """What is left when nothing was found and little is known."""
    results = search_results()
    results |= {"trials": [], "delivered": [], "refused": [], "remarks": [], "commands": [], "budgets": []}
    return results | {"prediction": {"latency": None, "memory": None}, "proposals": None, "data": {}, "machine": {}}


def nulls(value: Any) -> Any:
    """The same shape with every number lost."""
    if isinstance(value, dict):
        return {key: nulls(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [nulls(inner) for inner in value]
    return None if isinstance(value, (int, float)) and not isinstance(value, bool) else copy.copy(value)


@pytest.fixture
def results() -> dict[str, Any]:
    return search_results()


@pytest.fixture(params=["empty", "bare", "nulls", "single"])
def odd_results(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Results at the edge: nothing found, nothing known, every number missing, one network only."""
    full = search_results()
    single = full | {"delivered": full["delivered"][:1], "trials": full["trials"][:1]}
    return {"empty": empty_results(), "bare": {}, "nulls": nulls(full), "single": single}[request.param]


@pytest.fixture
def compression() -> dict[str, Any]:
    return {
        "float": {"bytes": 4_000_000, "latency_ms": 3.2, "metrics": {"accuracy": 0.921, "auc": 0.98}},
        "int8": {"bytes": 1_100_000, "latency_ms": 2.0, "metrics": {"accuracy": 0.918, "auc": 0.979}},
        "ratio": 1.6,
        "size_ratio": 3.64,
        "steps": [{"name": "prune", "did": "kept 60 % of the MACs"}, {"name": "quantize", "did": "31 of 40 layers"}],
        "sentence": "1.60x faster and 3.64x smaller for 0.3 points of accuracy.",
    }
