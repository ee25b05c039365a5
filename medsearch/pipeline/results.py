"""Everything a search found, as plain data: what ``results.json`` holds and the reports read."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from medsearch import __version__
from medsearch.blocks import MIXERS
from medsearch.core.deaths import Death
from medsearch.measurement.costs import Circumstances
from medsearch.measurement.estimate import Estimate
from medsearch.nas import Trial, front
from medsearch.pipeline.calibration import accuracy
from medsearch.pipeline.deliver import Delivered, artifact_name
from medsearch.pipeline.job import Job
from medsearch.tasks import Task

FORMAT = 2
"""Of ``results.json``.  1, which was not written down, had a key of its own for each of six costs."""

MOST_DEATHS = 6
"""Deaths that are told one by one."""


def collect(
    job: Job, trials: Sequence[Trial], delivered: Sequence[Delivered], refused: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """The results of a job; every key is there, null where nothing is known."""
    state = job.run.state()
    on_front = {trial.number for trial in front(trials)}
    phases = state.get("phases", {})
    data = job.setup.data.fingerprint()
    ordered = sorted(delivered, key=lambda network: job.setup.task.error(network.validation))
    return {
        "format": FORMAT,
        "name": job.run.folder.name,
        "command": job.run.command,
        "version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": job.config.seed,
        "seconds": {
            "search": phases.get("searching"),
            "training": phases.get("training"),
            "delivery": phases.get("delivering"),
            "total": job.clock.spent,
        },
        "plan": state.get("plan"),
        "seconds_asked": job.config.time,
        "training_share": _training_share(job, trials),
        "data": {
            **{key: data[key] for key in ("name", "task", "dims", "size", "channels", "classes", "sha256")},
            "source": job.setup.data.source,
            "counts": data["images"],
            "note": "; ".join(job.setup.data.notes) or None,
        },
        **judged(job.setup.task),
        "objectives": list(job.config.objectives),
        "space": {"name": job.setup.space.name, "architectures": job.setup.space.size()},
        "families": {name: MIXERS[name].FAMILY for name in MIXERS},  # type: ignore[attr-defined]
        "recipe": _recipe(job, state),
        "budgets": _budgets(job),
        "machine": {
            "target": job.setup.target,
            **job.cost.profile.device,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "workers": job.workers,
        },
        "trials": [trial_row(trial, on_front) for trial in trials],
        "proposals": {**state.get("proposals", {}), "trials_over_budget": _trials_over(job, trials)},
        "prediction": {name: asdict(found) for name, found in accuracy(state.get("measured") or {}).items()},
        "delivered": [_network(network, job.setup.task, best=network is ordered[0]) for network in ordered],
        "refused": list(refused),
        "remarks": _remarks(state, job.deaths.of_run),
        "commands": [
            job.run.command,
            f"medsearch report {job.run.folder}",
            *(
                f"medsearch compress {job.run.model_folder(network.genotype.id) / 'model.pt'}"
                for network in ordered[:1]
            ),
        ],
    }


def _training_share(job: Job, trials: Sequence[Trial]) -> float:
    """Worker seconds that went into training steps, by all there were in the time asked for, or else used."""
    steps: dict[str, float] = {trial.genotype.id: trial.facts.get("training_seconds", 0.0) for trial in trials}
    steps |= job.run.state().get("training_seconds", {})
    return sum(steps.values()) / (job.workers * (job.config.time or job.clock.spent))


def judged(task: Task) -> dict[str, Any]:
    """By what networks are judged, so that a report needs not know the task."""
    metrics = {name: metric.to_data() for name, metric in task.METRICS.items()}
    return {"primary": task.primary, "metrics": metrics, "error_label": task.error_label}


def trial_row(trial: Trial, on_front: set[int]) -> dict[str, Any]:
    """A trial as the reports take it."""
    costs: dict[str, dict[str, Any]] = trial.facts.get("costs", {})
    known = {name: Estimate(**found) for name, found in costs.items()}
    return {
        "number": trial.number,
        "id": trial.genotype.id,
        "mixers": list(trial.genotype.mixers),
        "costs": {
            name: _cost(None, found) if found.how == "measured" else _cost(found, None) for name, found in known.items()
        },
        "error": trial.objectives[0] if trial.objectives else None,
        "metrics": trial.metrics,
        "epochs": trial.facts.get("epochs"),
        "rungs": len(trial.curve),
        "state": trial.state,
        "front": trial.number in on_front,
    }


def _remarks(state: dict[str, Any], deaths: Sequence[Death]) -> list[str]:
    """What a reader of the scores has to know."""
    reads = int(state.get("test_reads", 0))
    more = "the run went on after it had been read, so its scores may have had a say in that"
    remarks = [f"the test split was read {reads} times: {more}"] if reads > 1 else []
    remarks += [state["precision_because"]] if "precision_because" in state else []
    remarks += [str(death) for death in deaths[:MOST_DEATHS]]
    left = len(deaths) - MOST_DEATHS
    return [*remarks, f"{left} more ends of child processes are in deaths.jsonl"] if left > 0 else remarks


def _recipe(job: Job, state: dict[str, Any]) -> dict[str, Any]:
    recipe = asdict(job.setup.recipe)
    augment = recipe.pop("augment")
    del recipe["epochs"], recipe["seed"]
    plan = state.get("plan") or {}
    how_long = {
        "epochs_search": plan.get("epochs"),
        "seconds_search": plan.get("first"),
        "epochs_full": max((state.get("trained") or {}).values(), default=None),
    }
    return {**how_long, **recipe, **{f"augment_{name}": value for name, value in augment.items()}}


def _cost(predicted: Estimate | None, measured: Estimate | None) -> dict[str, Any]:
    """A cost as far as it is known: predicted with its interval, measured."""
    known = predicted or measured
    return {
        "predicted": predicted and predicted.value,
        "low": predicted and predicted.low,
        "high": predicted and predicted.high,
        "measured": measured and measured.value,
        "unit": known and known.unit,
    }


def _budgets(job: Job) -> list[dict[str, Any]]:
    recipe = job.setup.recipe
    how = "in pieces, 16 bits or with blocks run again where needed" if job.config.fit_batch else recipe.precision
    circumstances = Circumstances(
        size=tuple(job.setup.data.size),
        batch=recipe.batch,
        training=how,
        runtime=job.cost.profile.device["runtime"],
        threads=job.cost.conditions.threads,
        artifact=artifact_name(job.setup.target),
    )
    rows = job.cost.rows
    return [
        {"name": name, "limit": limit, "unit": rows[name].unit, "conditions": rows[name].conditions(circumstances)}
        for name, limit in job.budget.items()
    ]


def _trials_over(job: Job, trials: Sequence[Trial]) -> int:
    """Trials whose predicted value, not only its upper bound, is over a limit."""
    limits = job.budget
    return sum(any(trial.facts["costs"][name]["value"] > limit for name, limit in limits.items()) for trial in trials)


def _network(network: Delivered, task: Task, *, best: bool) -> dict[str, Any]:
    names = dict.fromkeys((*network.predicted, *network.measured))
    return {
        "id": network.genotype.id,
        "mixers": list(network.genotype.mixers),
        "costs": {name: _cost(network.predicted.get(name), network.measured.get(name)) for name in names},
        "error": task.error(network.validation),
        "validation": network.validation,
        "test": network.test,
        "best": best,
        "training": dict(network.training),
        "onnx_bytes": network.onnx_bytes,
        "within_budget": network.within_budget,
        "epochs": network.epochs,
        "seconds": network.seconds,
        "folder": f"models/{network.genotype.id}",
        "notes": list(network.notes),
    }
