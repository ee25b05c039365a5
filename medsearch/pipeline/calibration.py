"""What whole networks of a search's space really take, before its first trial: what predictions are corrected by."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Any

from medsearch.measurement.calibration import Accuracy, calibrate
from medsearch.nas.initial_designs import initial_designs
from medsearch.pipeline.job import Job
from medsearch.pipeline.profile import profiled
from medsearch.pipeline.setup import is_timed, samples


def calibrate_job(job: Job) -> dict[str, Accuracy]:
    """Measure a few whole networks, and keep what they showed."""
    # Together, because what is timed by itself may meet a slow second.
    genotypes, times = samples(job.setup), job.cost.times
    if is_timed(job.cost.correctable):
        benchmarks = map(job.cost.benchmarks, (*genotypes, *initial_designs(job.setup.space)))
        times.time(times.missing(chain.from_iterable(benchmarks)), seen=partial(_seen, job, "timings of parts"))
    keys = [f"{profiled(job.setup)} {genotype.id}" for genotype in genotypes]
    whole = partial(times.whole, keys=keys, seen=partial(_seen, job, "timings of networks"))
    measured = job.setup.measured(genotypes, job.cost.correctable, whole, helper=job.lab)
    known = job.cost.profile.residuals.get(profiled(job.setup))
    accuracy = calibrate(job.cost, genotypes, measured, known=known)
    job.run.note(
        calibration={name: asdict(job.cost.corrections[name]) for name in job.cost.correctable},
        accuracy={name: asdict(found) for name, found in accuracy.items()},
    )
    return accuracy


def _seen(job: Job, what: str, done: int, total: int) -> None:
    job.view.progress(done, total, what)


def take_over(job: Job, known: dict[str, dict[str, Any]]) -> None:
    """Correct the cost model by what an earlier start has learned."""
    try:
        kinds = {name: type(job.cost.corrections[name]) for name in job.cost.correctable}
        job.cost.correct(**{name: kind(**known[name]) for name, kind in kinds.items()})
    except (KeyError, TypeError) as problem:
        raise job.run.damaged(f"'calibration' is {known!r}") from problem
