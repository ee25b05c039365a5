"""The end of a search: its best networks trained fully, delivered and, if asked for, compressed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsearch.core.children import ChildDied, Children, say
from medsearch.core.errors import RefusedError, RunError, WriteError
from medsearch.data import Split
from medsearch.nas import Trial, choose, reason
from medsearch.pipeline.compress import compress_file
from medsearch.pipeline.deliver import Delivered, deliver, epochs_saved, save
from medsearch.pipeline.job import Job
from medsearch.pipeline.trainings import instead, step_seconds, training
from medsearch.spaces import Genotype
from medsearch.train import Trained

PARALLEL = 1.15  # how much longer a step takes beside the other workers, evaluations included
COMPRESSION_SHARE = 0.25
DELIVERY_SECONDS = 15.0
EPOCHS_WITHOUT_TIME = 60
LEAST_COMPRESSION_SECONDS, COMPRESSION_TRAININGS = 3600.0, 20
"""How long a compression may take: so many seconds, and so many times as long as the full training took."""


def finalists(job: Job, trials: Sequence[Trial]) -> list[Genotype]:
    """Those trained fully and saved: of the best, or of the next best where the training of all these fails.

    Raises:
        RunError: where nothing could be trained.
    """
    left = list(trials)
    while chosen := choose(left, job.config.finalists, images=len(job.setup.data.val)):
        if trained := _train(job, [trial.genotype for trial in chosen]):
            return trained
        left = [trial for trial in left if trial not in chosen]
    raise RunError(str(job.run.folder), "the full training of every network failed; the messages above say why.")


def _train(job: Job, chosen: Sequence[Genotype]) -> list[Genotype]:
    """Train the finalists fully, as many at once as there are workers, and save each as it ends; returns those on disk.

    What an earlier start saved is trained again only where more epochs are planned since, and stays until that ends.
    """
    planned = job.run.state().get("epochs", {})
    if any(genotype.id not in planned for genotype in chosen):  # new, extended, or others are the best since
        possible = _epochs_full(job, chosen)
        planned = {genotype.id: max(possible[genotype.id], epochs_saved(job, genotype)) for genotype in chosen}
        job.run.note(epochs=planned)
    todo = [genotype for genotype in chosen if epochs_saved(job, genotype) < planned[genotype.id]]
    if todo:
        with job.phase("training the finalists"):
            running = {_full_training(job, genotype, planned): (genotype, 0) for genotype in todo}
            done = 0
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    genotype, before = running.pop(future)
                    if problem := future.exception():
                        if instead(job, genotype, problem, before):
                            running[_full_training(job, genotype, planned)] = (genotype, before + 1)
                            continue
                        job.view.note(f"{genotype.id} is left out: {problem}")
                    else:
                        save(job, genotype, future.result())
                    done += 1
                    job.view.progress(done, len(todo), "networks trained")
    return [genotype for genotype in chosen if epochs_saved(job, genotype)]


def _full_training(job: Job, genotype: Genotype, epochs: Mapping[str, int]) -> Future[Trained]:
    """The training of a finalist, begun."""
    given = training(job, genotype, epochs[genotype.id])
    every = max(1, given.recipe.epochs // 10)
    return job.trainers.submit(replace(given, evaluate_every=every, keep_model=True), genotype)


def _epochs_full(job: Job, genotypes: Sequence[Genotype]) -> dict[str, int]:
    """Epochs of each finalist, the best first: as many as the time that is left allows.

    The best has a worker to itself; the others share the rest of the workers, and train no longer than the best.
    """
    if job.config.epochs is not None:
        return {genotype.id: job.config.epochs for genotype in genotypes}
    if job.clock.budget is None:
        return {genotype.id: EPOCHS_WITHOUT_TIME for genotype in genotypes}
    steps = math.ceil(len(job.setup.data.train) / job.setup.recipe.batch)
    seconds = [PARALLEL * steps * step_seconds(job, genotype) for genotype in genotypes]
    left = job.clock.left(1 - COMPRESSION_SHARE * job.config.compress) - DELIVERY_SECONDS * len(genotypes)
    if job.workers == 1:
        counts = [left / sum(seconds)] * len(genotypes)
    else:
        most = left / seconds[0]
        others = left * (job.workers - 1) / max(sum(seconds[1:]), 1e-9)
        counts = [most, *(min(most, others, left / each) for each in seconds[1:])]
    return {genotype.id: _whole(count) for genotype, count in zip(genotypes, counts, strict=True)}


def _whole(epochs: float) -> int:
    return max(3, min(300, math.floor(epochs)))


def deliver_all(job: Job, trained: Sequence[Genotype]) -> tuple[list[Delivered], list[dict[str, str]]]:
    """Export and measure what was trained; refuse what is over budget when measured; read the test split once."""
    delivered: list[Delivered] = []
    refused: list[dict[str, str]] = []
    with job.phase("delivering"):
        job.run.note(test_reads=job.run.state().get("test_reads", 0) + 1)
        test = job.setup.data.open_test()
        for genotype in trained:
            job.view.note(f"exporting and measuring {genotype.id}")
            try:
                network = _delivered(job, genotype, test)
            except WriteError:
                raise
            except Exception as problem:
                refused.append({"id": genotype.id, "reason": reason(problem)})
                continue
            if network.within_budget:
                delivered.append(network)
            else:
                refused.append({"id": genotype.id, "reason": network.verdict})
    return delivered, refused


def _delivered(job: Job, genotype: Genotype, test: Split) -> Delivered:
    """The delivery, tried once more where its process ended."""
    try:
        return deliver(job, genotype, test)
    except ChildDied as death:
        job.died(genotype, death)
    try:
        return deliver(job, genotype, test)
    except ChildDied as death:
        job.died(genotype, death)
        raise


def compress_best(job: Job, results: dict[str, Any]) -> None:
    """Compress the best delivered network, and note in ``results`` what came of it."""
    best = next((network for network in results["delivered"] if network["best"]), None)
    if best is None:
        return
    model = job.run.folder / best["folder"] / "model.pt"
    limit_s = LEAST_COMPRESSION_SECONDS + COMPRESSION_TRAININGS * best["seconds"]
    with job.phase("compressing the best network"), Children(1, limit_s=limit_s) as child:
        try:
            found = child.call(_compressed, model, doing="compression", hear=job.view.note)
        except RefusedError as refusal:
            results["remarks"].append(f"compression of {best['id']} was refused: {refusal.problem}")
        except ChildDied as death:
            job.deaths.record(death, f"network {best['id']}")
            results["remarks"].append(f"compression of {best['id']} failed: {death.problem}")
        else:
            results["compression"] = found
            results["remarks"].append(f"{best['id']} compressed: {found['sentence']}")


def _compressed(model: Path) -> dict[str, Any]:
    """What comes of compressing a saved network, in the process that does it."""
    return compress_file(model, say=say)
