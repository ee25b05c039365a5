"""What whole networks of a search's space really take, before its first trial: what predictions are corrected by."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import Any

from medsearch.measurement.calibration import UNSEEN_SPREAD, Accuracy, calibrate, calibrate_file
from medsearch.measurement.model import Correction
from medsearch.nas.initial_designs import initial_designs
from medsearch.pipeline.job import Job
from medsearch.pipeline.profile import profiled
from medsearch.pipeline.setup import samples

LEAST_DOUBT = 0.02  # half width of the interval of predicted memory, however well the calibration went


def calibrate_job(job: Job) -> dict[str, Accuracy]:
    """Measure a few whole networks, and keep what they showed."""
    # Together, because what is timed by itself may meet a slow second.
    genotypes, times = samples(job.setup), job.cost.times
    benchmarks = map(job.cost.benchmarks, (*genotypes, *initial_designs(job.setup.space)))
    times.time(times.missing(chain.from_iterable(benchmarks)), seen=partial(_seen, job, "timings of parts"))
    keys = [f"{profiled(job.setup)} {genotype.id}" for genotype in genotypes]
    whole = partial(times.whole, keys=keys, seen=partial(_seen, job, "timings of networks"))
    measure = partial(job.setup.measured, milliseconds=whole, helper=job.lab)
    known = job.cost.profile.residuals.get(profiled(job.setup))
    accuracy = calibrate(job.cost, genotypes, measure, known=known)
    memory = job.cost.memory_correction
    job.cost.correct(memory=replace(memory, spread=max(memory.spread, LEAST_DOUBT)))
    if "file" in job.budget:
        files = zip(genotypes, job.lab.each(job.setup.exported, genotypes, doing="exporting a network"), strict=True)
        sizes = {genotype: len(file) for genotype, file in files if isinstance(file, bytes)}
        if sizes:
            accuracy["file"] = calibrate_file(job.cost, list(sizes), sizes.__getitem__)
    if "inference" in job.budget:
        job.fitting.inference_correction = _inference_correction(job)
    corrections: dict[str, Any] = {
        "inference": job.fitting.inference_correction,
        "memory": job.cost.memory_correction,
        "latency": job.cost.latency_correction,
        "file": job.cost.file_correction,
    }
    job.run.note(
        calibration={name: asdict(correction) for name, correction in corrections.items()},
        accuracy={name: asdict(found) for name, found in accuracy.items()},
    )
    return accuracy


def _seen(job: Job, what: str, done: int, total: int) -> None:
    job.view.progress(done, total, what)


def _inference_correction(job: Job) -> Correction:
    """What forward passes of whole networks show about the sums over their parts."""
    genotypes, setup = samples(job.setup), job.setup
    peaks = job.lab.each(setup.inference_memory, genotypes, doing="measuring a forward pass")
    pairs = [
        (job.fitting.inference_sum(genotype), peak)
        for genotype, peak in zip(genotypes, peaks, strict=True)
        if not isinstance(peak, Exception)
    ]
    if not pairs:
        return Correction(spread=UNSEEN_SPREAD)
    found = Correction.fit(*zip(*pairs, strict=True))
    return replace(found, spread=max(found.spread, LEAST_DOUBT))


def take_over(job: Job, known: dict[str, dict[str, Any]]) -> None:
    """Correct the cost model by what an earlier start has learned."""
    try:
        job.cost.correct(
            memory=Correction(**known["memory"]),
            latency=type(job.cost.latency_correction)(**known["latency"]),
            file=Correction(**known["file"]),
        )
        job.fitting.inference_correction = Correction(**known["inference"])
    except (KeyError, TypeError) as problem:
        raise job.run.damaged(f"'calibration' is {known!r}") from problem
