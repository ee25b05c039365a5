"""What whole networks of a search's space really take, before its first trial: what predictions are corrected by."""

from __future__ import annotations

import random
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from medsearch.export.onnx import to_onnx
from medsearch.measure.calibrate import Accuracy, calibrate, calibrate_file
from medsearch.measure.cost import Correction
from medsearch.search.anchors import anchors
from medsearch.spaces import Genotype
from medsearch.verbs.measured import inference_memory
from medsearch.verbs.profile import profiled
from medsearch.verbs.setting import Setting

if TYPE_CHECKING:
    from medsearch.verbs.search import Job

CALIBRATION_NETWORKS = 6
LEAST_DOUBT = 0.02  # half width of the interval of predicted memory, however well the calibration went


def calibrate_job(job: Job) -> dict[str, Accuracy]:
    """Measure a few whole networks, and keep what they showed."""
    # Together, because what is timed by itself may meet a slow second.
    genotypes = samples(job)
    probes = map(job.cost.probes, (*genotypes, *anchors(job.setting.space)))
    job.cost.times.time(job.cost.times.missing(chain.from_iterable(probes)))
    measure = partial(job.setting.measured, milliseconds=job.cost.times.whole)
    known = job.cost.profile.residuals.get(profiled(job.setting))
    accuracy = calibrate(job.cost, genotypes, measure, known=known)
    memory = job.cost.memory_correction
    job.cost.correct(memory=replace(memory, spread=max(memory.spread, LEAST_DOUBT)))
    if job.budget.file is not None:
        accuracy["file"] = calibrate_file(job.cost, genotypes, lambda genotype: len(exported(job, genotype)))
    if job.budget.inference is not None:
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


def _inference_correction(job: Job) -> Correction:
    """What forward passes of whole networks show about the sums over their parts."""
    genotypes, setting = samples(job), job.setting
    sums = [job.fitting.inference_sum(genotype) for genotype in genotypes]
    found = Correction.fit(sums, [inference_memory(setting.network(genotype), setting.data) for genotype in genotypes])
    return replace(found, spread=max(found.spread, LEAST_DOUBT))


def take_over(job: Job, known: dict[str, dict[str, Any]]) -> None:
    """Correct the cost model by what an earlier start has learned."""
    job.cost.correct(
        memory=Correction(**known["memory"]),
        latency=type(job.cost.latency_correction)(**known["latency"]),
        file=Correction(**known["file"]),
    )
    job.fitting.inference_correction = Correction(**known["inference"])


def samples(job: Job) -> list[Genotype]:
    """Random networks to calibrate by, the middle one first."""
    rng = random.Random(job.settings.seed)
    drawn = [middle(job.setting)]
    drawn += [job.setting.space.sample(rng) for _ in range(CALIBRATION_NETWORKS - 1)]
    return list(dict.fromkeys(drawn))


def middle(setting: Setting) -> Genotype:
    """The first anchor of the space: what stands for its networks where one must."""
    return next(iter(anchors(setting.space)), setting.space.first())


def exported(job: Job, genotype: Genotype) -> bytes:
    """The ONNX file of ``genotype`` as it would be delivered."""
    data = job.setting.data
    return to_onnx(job.setting.network(genotype).cpu().eval(), data.size, data.channels)
