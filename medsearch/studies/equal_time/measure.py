"""One row, in a process of its own: ``python -m medsearch.studies.equal_time.measure JOB``, which the benchmark starts.

The process that starts it has pinned it to its cores and given every library one thread, and holds its standard input
open: when that ends, this process and all that it began end too.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsearch import __version__
from medsearch.config import SearchConfig
from medsearch.core.errors import DataError, MedsearchError, RunError
from medsearch.core.files import read_json, write_text
from medsearch.data import Dataset
from medsearch.exporters.checkpoint import load_model
from medsearch.measurement.device import cpu
from medsearch.measurement.latency.timing import paired
from medsearch.pipeline.setup import Setup, prepare
from medsearch.studies.equal_time.job import ROW, Job
from medsearch.studies.equal_time.onecycle import train_one_cycle
from medsearch.studies.equal_time.plan import HAND_MADE, SEARCH, Case
from medsearch.studies.equal_time.rivals import rival
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target
from medsearch.tasks import Task
from medsearch.train import Leg, Session, evaluate, predict
from medsearch.train.step_cost import step_seconds

LR, LR_OF = 4e-3, {"resnet18": 2e-3, "unet": 2e-3}
BATCH, BATCH_OF_MASKS = 64, 16
LATENCY_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds on the wall clock, and seconds that this process and those it has waited for have computed."""

    seconds: float
    processor_seconds: float

    @classmethod
    def now(cls) -> Spent:
        """Since an arbitrary begin."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(seconds=time.monotonic(), processor_seconds=sum(one.ru_utime + one.ru_stime for one in used))

    def until_now(self) -> Spent:
        """Since this."""
        now = self.now()
        return Spent(
            seconds=now.seconds - self.seconds, processor_seconds=now.processor_seconds - self.processor_seconds
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """A trained network, before its test.

    Args:
        model: in eval mode.
        epochs: that it was trained.
        spent: by the search or the training.
        precision: of the training.
        network: what it is, for people.
    """

    model: nn.Module
    epochs: float
    spent: Spent
    precision: str
    network: str


def measure(job: Job) -> dict[str, Any]:
    """Search or train as ``job`` says, read the test split once, time the network; the row.

    Raises:
        MedsearchError: if the search or the training fails, or the set is for another task than this benchmark's.
    """
    case = job.case
    setup = prepare(SearchConfig(data=job.source, seed=case.seed))
    data, task = setup.data, setup.task
    if data.task not in HAND_MADE:
        raise DataError(data.source, f"is for {data.task}; compared are {', '.join(HAND_MADE)}.")
    found = _searched(job) if case.arm == SEARCH else _trained(case, setup)
    validation = evaluate(found.model, data.val, task)
    times = _latency(found.model, data, seed=case.seed, seconds=min(LATENCY_SECONDS, 60 * case.minutes))
    split = data.open_test()
    output, targets = predict(found.model, split.images), task.TARGET.tensor(split.targets)
    test = task.metrics(output, targets)
    return {
        **case.to_data(),
        "task": data.task,
        "primary": task.primary,
        "validation": validation,
        "validation_error": task.error(validation),
        "test": test,
        "test_error": task.error(test),
        "score": "dice" if task.DENSE else "accuracy",
        "network": found.network,
        "parameters": sum(tensor.numel() for tensor in found.model.parameters()),
        "epochs": round(found.epochs, 1),
        "precision": found.precision,
        "profile": ("fresh" if job.fresh_profile else "kept") if case.arm == SEARCH else "",
        "seconds": round(found.spent.seconds, 1),
        "processor_seconds": round(found.spent.processor_seconds, 1),
        **times,
        "notes": list(data.notes),
        "cpu": cpu(),
        "commit": commit(),
        "versions": {"medsearch": __version__, "torch": torch.__version__},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "scores": scores(output, targets, task),
    }


def scores(output: Tensor, targets: Tensor, task: Task) -> list[float]:
    """What every image adds to a mean: 1 or 0 for a class that is right or wrong, the Dice of a mask to three digits.

    Args:
        output: (N, K, ...) of the network.
        targets: (N, ...) classes of images or pixels.
        task: finds the Dice, which is that of the structures in the mask or the prediction of one image.
    """
    if not task.DENSE:
        return (output.argmax(1) == targets).int().tolist()
    return [round(task.metrics(output[i : i + 1], targets[i : i + 1])["dice"], 3) for i in range(len(output))]


def _searched(job: Job) -> Found:
    """The best network of a search from the command line, which takes the time from its start to its end."""
    case, run = job.case, Path(job.folder) / "run"
    command = [sys.executable, "-m", "medsearch", "search", "--data", job.source, "--time", f"{60 * case.minutes:g}s"]
    command += ["--workers", f"{case.workers}", "--seed", f"{case.seed}", *job.search_options, "-o", str(run)]
    cache = {"MEDSEARCH_CACHE": str(run.parent / "cache")} if job.fresh_profile else {}
    with (run.parent / "search.log").open("wb") as log:
        start = Spent.now()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **cache}
        )
        spent = start.until_now()
    if done.returncode:
        raise RunError(str(run), f"the search ended with exit code {done.returncode}.", f"See {log.name}.")
    best = next(network for network in read_json(run / "results.json")["delivered"] if network["best"])
    checkpoint = load_model(run / "models" / best["id"] / "model.pt")
    return Found(
        model=checkpoint.build(),
        epochs=float(checkpoint.provenance["epochs"]),
        spent=spent,
        precision=str(checkpoint.provenance["precision"]),
        network=" / ".join(checkpoint.genotype.mixers),
    )


def _trained(case: Case, setup: Setup) -> Found:
    """A network trained for all the time; its making, and the choice of a precision, are not counted."""
    data, task, seconds = setup.data, setup.task, 60 * case.minutes
    if case.arm == "random":
        genotype = setup.space.sample(random.Random(case.seed))
        model: nn.Module = setup.network(genotype)
        network = " / ".join(genotype.mixers)
    else:
        model, network = rival(case.arm, data, seed=case.seed), case.arm
    if case.recipe == "onecycle":
        start = Spent.now()
        kept = train_one_cycle(
            model,
            data,
            task,
            seconds=seconds,
            lr=LR_OF.get(case.arm, LR),
            batch=BATCH_OF_MASKS if task.DENSE else BATCH,
            seed=case.seed,
        )
        spent = start.until_now()
        return Found(model=kept.model, epochs=kept.epochs, spent=spent, precision="bf16", network=network)
    recipes = [replace(setup.recipe, precision=precision) for precision in ("fp32", "bf16")]
    recipe = min(recipes, key=lambda one: step_seconds(model, data, task, one, steps=2))
    start = Spent.now()
    session = Session(model, data, task, recipe)
    session.run(Leg(within=seconds, falls=True))
    session.evaluate()
    spent = start.until_now()
    return Found(
        model=session.averaged, epochs=session.epochs, spent=spent, precision=recipe.precision, network=network
    )


def _latency(model: nn.Module, data: Dataset, *, seed: int, seconds: float) -> dict[str, float]:
    """Batch 1 on one thread beside the hand-made network, in turns: only the ratio holds on other days.

    ``latency_ratio`` is how many times as long as the hand-made network this one takes.
    """
    target = make_target(DEFAULT, 1)
    image_1CS = torch.zeros(1, data.channels, *data.size)
    runs = [
        target.runner(target.export_fast(network, (image_1CS,)))
        for network in (rival(HAND_MADE[data.task], data, seed=seed), model)
    ]
    faster, reference, latency = paired(*runs, now=target.clock, seconds=seconds)
    return {
        "latency_ms": round(latency.median_ms, 4),
        "reference_ms": round(reference.median_ms, 4),
        "latency_ratio": round(1 / faster, 4),
    }


def commit() -> str:
    """Of the checkout that is measured, with a + where the package differs from it; empty outside of a checkout."""
    package = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _end_with_benchmark() -> None:
    """Wait until standard input ends, which is when the benchmark does, and end with all that was begun here."""
    while os.read(0, 1):  # not of sys.stdin, whose lock a thread that waits would hold when the interpreter ends
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(text: str) -> int:
    """Measure one row and leave it in its folder; returns the exit code."""
    job = Job.of_text(text)
    torch.set_num_threads(1)
    folder = Path(job.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        write_text(folder / ROW, json.dumps(measure(job), allow_nan=False))
    except MedsearchError as problem:
        print(f"{job.case.name}: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    threading.Thread(target=_end_with_benchmark, daemon=True).start()
    sys.exit(main(sys.argv[1]))
