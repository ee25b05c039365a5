"""Hand over one trained network: saved, exported, compared with what was exported, measured against its budgets."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medsearch import __version__
from medsearch.core.errors import CheckpointError, RefusedError
from medsearch.core.files import write_bytes, write_json
from medsearch.data import Split
from medsearch.exporters.checkpoint import load_model, save_model
from medsearch.exporters.module import write_module
from medsearch.measurement.budget import Costs, show
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.parts import SESSIONS
from medsearch.measurement.latency.timing import Latency
from medsearch.measurement.memory.processor import instructions
from medsearch.pipeline.artifact import checked_artifact
from medsearch.pipeline.calibration import learn
from medsearch.pipeline.job import Job
from medsearch.pipeline.measurement import measure
from medsearch.pipeline.setup import Setup
from medsearch.spaces import Genotype
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target
from medsearch.train import Trained, TrainingRecipe, evaluate

DELIVERY_LIMIT_SECONDS, SECONDS_PER_IMAGE = 1200.0, 5.0
"""How long the process that delivers a network may take, and how much longer for every test image."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """One network that was handed over, with what was predicted, measured and found.

    Args:
        genotype: of the network.
        predicted, measured: costs before and after, as far as they are known.
        validation, test: metrics.
        over: names of the budgets that the measurement did not keep.
        onnx_bytes: size of the ONNX file.
        training: batch, precision and the like, as it was trained and measured.
        epochs, seconds: of the full training.
        notes: anything else worth saying.
    """

    genotype: Genotype
    predicted: Costs
    measured: Costs
    validation: dict[str, float]
    test: dict[str, float]
    over: tuple[str, ...]
    verdict: str
    onnx_bytes: int
    training: dict[str, Any]
    epochs: float
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def within_budget(self) -> bool:
        """Whether every limit was kept when measured."""
        return not self.over


def epochs_saved(job: Job, genotype: Genotype) -> float:
    """For how many epochs this network was trained that is safely on disk; 0 where there is none, or it is damaged."""
    try:
        return float(load_model(job.run.model_folder(genotype.id) / "model.pt").provenance["epochs"])
    except CheckpointError:
        return 0.0


def save(job: Job, genotype: Genotype, trained: Trained) -> None:
    """Put a trained network on disk."""
    assert trained.model is not None
    save_model(
        job.run.model_folder(genotype.id) / "model.pt",
        genotype=genotype,
        interface=job.setup.interface,
        size=job.setup.data.size,
        model=trained.model,
        classes=job.setup.data.classes,
        scores=trained.metrics,
        provenance=_provenance(job, genotype, trained),
    )


def deliver(job: Job, genotype: Genotype, test: Split) -> Delivered:
    """Export a saved network, and measure what the budgets limit.

    What computes does so in processes of its own.

    Raises:
        RefusedError: if a file does not compute what the network does, or cannot be run.
        ChildDied: if a process ended that did any of it.
    """
    setup, folder = job.setup, job.run.model_folder(genotype.id)
    checkpoint = load_model(folder / "model.pt")
    recipe = job.fitting.recipe_of(genotype)
    limit_s = DELIVERY_LIMIT_SECONDS + SECONDS_PER_IMAGE * len(test)
    files, scores = job.lab.call(_examined, setup, folder, test, doing="delivery", limit_s=limit_s)
    for name, content in files.items():
        write_bytes(folder / name, content)
    artifact = files[artifact_name(setup.target)]
    timing = job.cost.times.latency(artifact)
    if not math.isfinite(timing.median_ms):
        raise RefusedError(genotype.id, f"{setup.target} ends its process when it runs {artifact_name(setup.target)}.")
    measured = Costs(**job.lab.call(_measured, setup, folder, recipe, artifact, timing, doing="delivery"))
    over = tuple(job.budget.over(measured))
    network = Delivered(
        genotype=genotype,
        predicted=job.fitting(genotype),
        measured=measured,
        validation=dict(checkpoint.scores),
        test=scores,
        over=over,
        verdict=_verdict(job, measured, over),
        onnx_bytes=len(files[artifact_name(DEFAULT)]),
        training=_training(job, genotype),
        epochs=float(checkpoint.provenance["epochs"]),
        seconds=float(checkpoint.provenance["seconds"]),
    )
    learn(job, genotype, network.predicted, measured)
    job.lab.call(_write_module, setup, folder, _facts(job, network), doing="delivery")
    write_json(folder / "budget.json", _certificate(job, network))
    return network


def _examined(setup: Setup, folder: Path, test: Split) -> tuple[dict[str, bytes], dict[str, float]]:
    """The files of a saved network, and its metrics on ``test``.

    The files are model.onnx and, where the target's is another, that one.
    """
    checkpoint = load_model(folder / "model.pt")
    model = checkpoint.build()
    images, where = setup.data.val.images[:4], checkpoint.genotype.id
    files = {
        artifact_name(name): checked_artifact(model, images, make_target(name), where=where)[0]
        for name in dict.fromkeys((DEFAULT, setup.target))
    }
    return files, evaluate(model, test, setup.task)


def _measured(
    setup: Setup, folder: Path, recipe: TrainingRecipe, artifact: bytes, timing: Latency
) -> dict[str, Estimate]:
    """Everything that a saved network costs."""
    model = load_model(folder / "model.pt").build()
    return measure(model, setup.data, setup.task, recipe, artifact=artifact, timing=timing)


def artifact_name(target: str) -> str:
    """``model.onnx``: the file beside a model.pt that a deployment target runs."""
    return f"model{make_target(target).suffix}"


def _write_module(setup: Setup, folder: Path, facts: dict[str, str | float | int]) -> None:
    """``backbone.py`` and its weights for a saved network, compared with it."""
    checkpoint = load_model(folder / "model.pt")
    images = setup.data.val.images[:2]
    write_module(folder, checkpoint.genotype, setup.interface, checkpoint.build(), images, facts=facts)


def _provenance(job: Job, genotype: Genotype, trained: Trained) -> dict[str, Any]:
    return {
        "medsearch": __version__,
        "command": job.run.command,
        "data": job.setup.data.source,
        "space": job.setup.space.name,
        "seed": job.config.seed,
        "epochs": trained.epochs,
        "seconds": trained.seconds,
        **_training(job, genotype),
    }


def _training(job: Job, genotype: Genotype) -> dict[str, Any]:
    recipe = job.fitting.recipe_of(genotype)
    return {
        "precision": recipe.precision,
        "batch": recipe.batch,
        "accumulate": recipe.accumulate,
        "checkpointing": int(recipe.checkpointing),
    }


def _verdict(job: Job, measured: Costs, over: tuple[str, ...]) -> str:
    if not over:
        return "within budget"
    limits = job.budget
    said = [f"{name} {_shown(name, measured)} of {show(name, limits[name])}" for name in over]
    return "over budget when measured: " + ", ".join(said)


def _shown(name: str, costs: Costs) -> str:
    return show(name, costs[name].value) if name in costs else "unknown"


def _facts(job: Job, network: Delivered) -> dict[str, str | float | int]:
    limits = job.budget
    facts: dict[str, str | float | int] = {
        "architecture": f"{network.genotype.id}: {' / '.join(network.genotype.mixers)}",
        **{f"test {name}": round(value, 4) for name, value in network.test.items()},
        **{f"validation {name}": round(value, 4) for name, value in network.validation.items()},
    }
    for name in job.cost.rows:
        limit = f", limit {show(name, limits[name])}" if name in limits else ""
        facts[name] = f"{_shown(name, network.measured)} measured{limit}"
    facts["data"] = f"{job.setup.data.name} {job.setup.data.fingerprint()['sha256']}"
    facts["made by"] = f"medsearch {__version__}: {job.run.command}"
    return facts


def _certificate(job: Job, network: Delivered) -> dict[str, Any]:
    """Every cost with its limit, what was predicted and what was measured, and what all of it holds for."""
    data = job.setup.data
    limits = job.budget
    recipe = job.fitting.recipe_of(network.genotype)
    return {
        "architecture": network.genotype.id,
        "verdict": network.verdict,
        "device": {**job.cost.profile.device, "training": training_device()},
        "instructions": instructions(),
        "versions": versions(),
        "conditions": {
            "training_batch": recipe.batch,
            "training_accumulate": recipe.accumulate,
            "training_checkpointing": recipe.checkpointing,
            "training_precision": recipe.precision,
            "inference_batch": 1,
            "inference_target": job.cost.profile.target,
            "inference_threads": job.cost.conditions.threads,
            "inference_sessions": SESSIONS,
            "reference_ms": job.cost.profile.pace,
            "size": list(data.size),
            "images": str(data.train.images.dtype),
        },
        "limits": {
            name: {
                "limit": limits.get(name),
                "predicted": network.predicted[name].to_data() if name in network.predicted else None,
                "measured": measured.to_data(),
                "verdict": _kept(name, network, limits),
            }
            for name, measured in network.measured.items()
        },
    }


def _kept(name: str, network: Delivered, limits: Mapping[str, float]) -> str:
    if name not in limits:
        return "no limit"
    return "over" if name in network.over else "kept"


def training_device() -> str:
    """Where training steps are measured: the GPU by its name, or the CPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def versions() -> dict[str, str]:
    """Of what a measurement depends on, the runtime aside, which the device names."""
    return {"medsearch": __version__, "torch": torch.__version__, "python": platform.python_version()}
