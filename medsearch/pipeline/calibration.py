"""What whole networks really took, in this run and in earlier ones here: what predictions are corrected by.

Nothing is measured for the purpose.  Networks whose prediction left open whether they fit, and those that are
delivered, are measured anyhow; the profile keeps what they showed for later runs, and the run for itself, so that one
that is resumed goes on as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from medsearch.measurement.budget import Costs
from medsearch.measurement.calibration import Accuracy
from medsearch.measurement.costs import Calibration
from medsearch.measurement.estimate import Estimate
from medsearch.pipeline.job import Job
from medsearch.pipeline.profile import profiled
from medsearch.spaces import Genotype

MOST_NETWORKS = 60
"""Of one kind that are remembered: the latest."""


def take_over(job: Job) -> None:
    """Correct the cost model by what networks like those of this search have shown before.

    Raises:
        RunError: where the state of the run holds something else.
    """
    known = job.run.state().get("networks")
    if known is None:
        known = {_key(job, name): job.cost.profile.networks.get(_key(job, name), {}) for name in job.cost.correctable}
        job.run.note(networks=known)
    try:
        _correct(job, known)
    except (TypeError, ValueError) as problem:
        raise job.run.damaged(f"'networks' is {known!r}") from problem


def learn(job: Job, genotype: Genotype, predicted: Costs, measured: Mapping[str, Estimate]) -> None:
    """Keep what a network took, and correct what is predicted from now on.

    Args:
        job: whose cost model is corrected.
        genotype: of the network.
        predicted: its costs as they were predicted before.
        measured: those that were measured.
    """
    state = job.run.state()
    known, pairs = state.get("networks") or {}, state.get("measured") or {}
    for name in job.cost.correctable:
        if name not in measured or name not in predicted or not _comparable(job, genotype, name):
            continue
        value, said = measured[name].value, predicted[name]
        if not math.isfinite(value) or not math.isfinite(said.value) or said.how != "predicted":
            continue
        row = [*map(float, job.cost.rows[name].sums(job.cost, genotype)), float(value)]
        for kept in (known, job.cost.profile.networks):
            kept[_key(job, name)] = _with(kept.get(_key(job, name), {}), genotype.id, row)
        pairs.setdefault(name, {}).setdefault(genotype.id, [said.value, value])
    job.run.note(networks=known, measured=pairs)
    job.keep_timings()
    _correct(job, known)


def accuracy(pairs: Mapping[str, Mapping[str, tuple[float, float]]]) -> dict[str, Accuracy]:
    """How far off predictions were, by cost, over the networks that a run has measured."""
    found = {name: list(zip(*known.values(), strict=True)) for name, known in pairs.items() if known}
    return {name: Accuracy.of(predicted, measured) for name, (predicted, measured) in found.items()}


def _correct(job: Job, known: Mapping[str, Mapping[str, Any]]) -> None:
    cost, residual = job.cost, job.cost.profile.residuals.get(profiled(job.setup))
    corrections = {}
    for name in cost.correctable:
        rows = list(known.get(_key(job, name), {}).values())
        seen = Calibration(
            model=cost, sums=[tuple(row[:-1]) for row in rows], measured=[row[-1] for row in rows], known=residual
        )
        corrections[name] = cost.rows[name].calibrate(seen)[0]
    cost.correct(**corrections)


def _comparable(job: Job, genotype: Genotype, name: str) -> bool:
    """Whether a network was measured as it is predicted: a step of another batch or precision says nothing here."""
    return name != "memory" or job.fitting.recipe_of(genotype) == job.setup.recipe


def _with(kept: Mapping[str, list[float]], name: str, row: list[float]) -> dict[str, list[float]]:
    """The latest networks, this one last."""
    others = [(key, value) for key, value in kept.items() if key != name]
    return dict([*others, (name, row)][-MOST_NETWORKS:])


def _key(job: Job, name: str) -> str:
    """What the numbers of a network hold for."""
    where = f"{name}: {profiled(job.setup)}"
    if job.cost.rows[name].timed:
        return where
    recipe, device = job.setup.recipe, "cuda" if torch.cuda.is_available() else "cpu"
    return f"{where}, batch {recipe.batch}, {recipe.precision}, {device}, torch {torch.__version__}"
