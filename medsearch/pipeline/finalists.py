"""The end of a search: its best networks trained fully, delivered and, if asked for, compressed."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from medsearch.pipeline.planner import EPOCHS_FULL, OTHERS_SHARE, Plan
from medsearch.pipeline.trainings import instead, steps_per_epoch, training
from medsearch.spaces import Genotype
from medsearch.train import Leg, Trained

LEAST_FALL = 1.25
"""Epochs of the full training, in those of the last rung, at least: the learning rate needs some time to fall."""
LEAST_COMPRESSION_SECONDS, COMPRESSION_TRAININGS = 3600.0, 20
"""How long a compression may take: so many seconds, and so many times as long as the full training took."""


def finalists(job: Job, plan: Plan, trials: Sequence[Trial]) -> list[Genotype]:
    """Those trained fully and saved: of the best, or of the next best where the training of all these fails.

    Raises:
        RunError: where nothing could be trained.
    """
    left = [trial for trial in trials if "stuck" not in trial.facts]
    while chosen := choose(left, plan.finalists, images=_labelled(job)):
        if trained := _train(job, plan, chosen):
            return trained
        left = [trial for trial in left if trial not in chosen]
    raise RunError(str(job.run.folder), "the full training of every network failed; the messages above say why.")


def _labelled(job: Job) -> int | None:
    """Validation images, where each is right or wrong; None where it has a score of its own, which is surer."""
    return None if job.setup.task.DENSE else len(job.setup.data.val)


def _train(job: Job, plan: Plan, chosen: Sequence[Trial]) -> list[Genotype]:
    """Train the finalists to the end, from where they stand, and save each as it ends; returns those on disk."""
    state = job.run.state()
    done, spent = state.get("trained", {}), state.get("training_seconds", {})
    todo = [trial for trial in chosen if trial.genotype.id not in done or not epochs_saved(job, trial.genotype)]
    if todo:
        with job.phase("training the finalists"):
            running = {_begin(job, plan, lane): (lane, 0) for lane in _lanes(todo, job.workers)}
            ended = 0
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    lane, before = running.pop(future)
                    genotype, problem = lane[0].genotype, future.exception()
                    if problem and instead(job, genotype, problem, before):
                        running[_begin(job, plan, lane)] = (lane, before + 1)
                        continue
                    if problem:
                        job.view.note(f"{genotype.id} is left out: {problem}")
                    else:
                        save(job, genotype, found := future.result())
                        done = {**done, genotype.id: found.epochs}
                        spent = {**spent, genotype.id: found.training_seconds}
                        job.run.note(trained=done, training_seconds=spent, seconds=job.clock.spent)
                    if rest := lane[1:]:
                        running[_begin(job, plan, rest)] = (rest, 0)
                    ended += 1
                    job.view.progress(ended, len(todo), "networks trained")
    return [trial.genotype for trial in chosen if epochs_saved(job, trial.genotype)]


Lane = Sequence[Trial]
"""Those that one worker trains further, one after the other."""


def _lanes(todo: Sequence[Trial], workers: int) -> list[Lane]:
    """Who trains what: the best one, which comes first, has a worker to itself, and the others share the rest.

    Where there is one worker, the best one comes last, so that what the others leave of their time is its own.
    """
    best, others = todo[0], todo[1:]
    if workers == 1:
        return [[*others, best]]
    return [[best], *filter(None, (others[first :: workers - 1] for first in range(workers - 1)))]


def _begin(job: Job, plan: Plan, lane: Lane) -> Future[Trained]:
    """The last leg of the first network of a lane, begun."""
    genotype = lane[0].genotype
    given = training(job, genotype, _last_leg(job, plan, lane))
    return job.trainers.submit(replace(given, keep_model=True), genotype)


def _last_leg(job: Job, plan: Plan, lane: Lane) -> Leg:
    """A part of what is left of the time: an equal one, or a small one where the best one waits for its own."""
    if job.config.epochs is not None or plan.training_end is None:
        epochs = max(job.config.epochs or EPOCHS_FULL, math.ceil(LEAST_FALL * lane[0].facts.get("epochs", 0.0)))
        return Leg(steps=epochs * steps_per_epoch(job), falls=True)
    left = max(0.0, plan.training_end - job.clock.spent)
    share = 1 / len(lane)
    if job.workers == 1 and len(lane) > 1:
        share = min(share, OTHERS_SHARE / (plan.finalists - 1))
    return Leg(within=share * left, falls=True)


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
