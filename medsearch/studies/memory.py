"""How far memory predictions are from the truth: random networks predicted, traced as a whole, and really trained."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medsearch.backbones import Interface, build
from medsearch.core.files import append_row, read_rows
from medsearch.measurement.budget import Budget
from medsearch.measurement.calibration import Accuracy, upper_ratio
from medsearch.measurement.memory.peak import training_peak
from medsearch.measurement.memory.step import StepMemory, this_device
from medsearch.measurement.memory.workspace import Workspaces
from medsearch.measurement.model import CostModel
from medsearch.measurement.threads import torch_threads
from medsearch.spaces import Genotype, Space, load_space
from medsearch.tasks import Task, make_task, task_type
from medsearch.train import TrainingRecipe
from medsearch.train.step_cost import learning_memory, traced_memory

FIELDS = (
    "device",
    "space",
    "task",
    "size",
    "batch",
    "precision",
    "checkpointing",
    "id",
    "mixers",
    "predicted_bytes",
    "upper_bytes",
    "traced_bytes",
    "measured_bytes",
    "reserved_bytes",
    "predict_seconds",
    "trace_seconds",
    "measure_seconds",
)
KEY = FIELDS[:8]


@dataclass(frozen=True, kw_only=True)
class MemoryCase:
    """Networks of one space under one condition.

    Args:
        space: a name or a file.
        task: what they are trained for.
        size: spatial size of the images.
        batch: images per step.
        precision: ``"fp32"`` or ``"bf16"``.
        channels, outputs: of the images, and of the network.
        checkpointing: whether blocks are run again in the backward pass.
    """

    space: str
    task: str
    size: tuple[int, ...]
    batch: int
    precision: str
    channels: int = 1
    outputs: int = 3
    checkpointing: bool = False

    @property
    def interface(self) -> Interface:
        """What networks take and give."""
        outputs = self.channels if task_type(self.task).RESTORES else self.outputs
        return Interface(task=self.task, channels=self.channels, outputs=outputs)

    def batch_of_zeros(self, device: str) -> tuple[Tensor, Tensor]:
        """Images and targets."""
        images = torch.zeros(self.batch, self.channels, *self.size, device=device)
        target = task_type(self.task).TARGET
        shape = target.shape(channels=self.channels, size=self.size, outputs=self.interface.outputs)
        kind = torch.int64 if target.classes else torch.float32
        return images, torch.zeros(self.batch, *shape, dtype=kind, device=device)


CASES = tuple(
    MemoryCase(space=space, task=task, size=size, batch=batch, precision=precision)
    for space, sizes in (
        ("hybrid2d-tiny", (((28, 28), 16), ((64, 64), 8), ((96, 80), 4))),
        ("hybrid3d-tiny", (((16, 16, 16), 8), ((28, 28, 28), 4), ((32, 40, 24), 2))),
    )
    for size, batch in sizes
    for task in ("classification", "segmentation")
    for precision in ("fp32", "bf16")
)
"""Two spaces, three resolutions each, two tasks, two precisions: 24 conditions for a processor."""
GPU_CASES = tuple(
    MemoryCase(space=space, task=task, size=size, batch=batch, precision=precision)
    for space, sizes in (
        ("hybrid2d", (((128, 128), 32), ((224, 224), 16), ((512, 384), 4))),
        ("hybrid3d", (((48, 48, 48), 4), ((96, 96, 96), 2), ((64, 128, 128), 1))),
    )
    for size, batch in sizes
    for task in ("classification", "segmentation")
    for precision in ("fp32", "bf16")
)
"""The same of larger networks and images, for a GPU."""


@torch_threads(1)
def memory_report(
    *, networks: int, out: Path, cases: Sequence[MemoryCase] | None = None, seed: int = 0, trace: bool = True
) -> list[dict[str, Any]]:
    """Predict and measure the memory of ``networks`` random networks over ``cases``, in turns; returns a summary.

    Args:
        networks: in all, rows that are there already included.
        out: a CSV file that gets a row as each network is measured; what it has is not measured again.
        cases: conditions; None gives :data:`CASES`, or :data:`GPU_CASES` where there is a GPU.
        seed: of the networks.
        trace: whether to trace whole steps too.
    """
    cases = cases or (GPU_CASES if torch.cuda.is_available() else CASES)
    rows = read_rows(out)
    known = {tuple(str(row[field]) for field in KEY) for row in rows}
    for predictor, genotype in _draw(cases, networks, seed):
        if tuple(map(str, predictor.key(genotype))) not in known:
            ratios = [float(row["measured_bytes"]) / float(row["predicted_bytes"]) for row in rows]
            rows.append(predictor.row(genotype, ratios, trace=trace))
            append_row(out, FIELDS, rows[-1])
    return summary(rows)


def predictions(genotypes: Sequence[Genotype], case: MemoryCase, *, measure: bool = True) -> list[dict[str, Any]]:
    """One row a network, on whatever device is present; without ``measure`` nothing is run for real.

    Workspaces of operators are measured where ``measure`` is set, so that without it nothing large is allocated.
    """
    predictor = _Predictor(case, workspaces=measure)
    return [predictor.row(genotype, [], measure=measure) for genotype in genotypes]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors of predictions by device, of traces likewise, and how many measurements the upper bounds cover."""
    found = []
    for device in dict.fromkeys(row["device"] for row in rows):
        mine = [row for row in rows if row["device"] == device]
        real = [float(row["measured_bytes"]) for row in mine]
        covered = [float(row["upper_bytes"]) >= float(row["measured_bytes"]) for row in mine]
        for how in ("predicted", "traced"):
            pairs = [(float(row[f"{how}_bytes"]), r) for row, r in zip(mine, real, strict=True) if row[f"{how}_bytes"]]
            if pairs:
                error = Accuracy.of(*zip(*pairs, strict=True))
                found.append(
                    {
                        "device": device,
                        "how": how,
                        "networks": error.networks,
                        "median off by %": round(error.median_error_percent, 2),
                        "95th percentile %": round(error.p95_error_percent, 2),
                        "largest %": round(error.largest_error_percent, 2),
                        "upper bound covers %": round(100 * sum(covered) / len(covered), 1)
                        if how == "predicted"
                        else "",
                    }
                )
    return found


def _draw(cases: Sequence[MemoryCase], networks: int, seed: int) -> Iterator[tuple[_Predictor, Genotype]]:
    """Networks of every case, all of a case one after the other: they share parts."""
    for i, case in enumerate(cases):
        count = networks // len(cases) + (i < networks % len(cases))
        space, rng = load_space(case.space, task=case.task), random.Random(f"{seed} {case}")
        predictor = _Predictor(case)
        for _ in range(count):
            yield predictor, space.sample(rng)


class _Predictor:
    """Predicts and measures networks of one case."""

    def __init__(self, case: MemoryCase, *, workspaces: bool = True) -> None:
        self.case = case
        self.kind = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = this_device()
        self.task: Task = make_task(case.task, outputs=case.interface.outputs, dims=len(case.size))
        self.recipe = TrainingRecipe(
            epochs=1, batch=case.batch, precision=case.precision, checkpointing=case.checkpointing, seed=0
        )
        self.workspaces = Workspaces(self.kind) if workspaces else None
        self.steps = StepMemory(
            case.interface,
            case.size,
            batches=(case.batch, case.batch),
            loss=self.task.loss,
            workspaces=self.workspaces,
            device=self.device,
        )

    def key(self, genotype: Genotype) -> tuple[Any, ...]:
        """What tells a row from others."""
        case = self.case
        name = torch.cuda.get_device_name() if self.kind == "cuda" else "cpu"
        size = "x".join(map(str, case.size))
        return (name, case.space, case.task, size, case.batch, case.precision, case.checkpointing, genotype.id)

    def row(
        self, genotype: Genotype, ratios: Sequence[float], *, trace: bool = True, measure: bool = True
    ) -> dict[str, Any]:
        """Everything about one network; ``ratios`` of measured to predicted, seen before, give its upper bound."""
        start = time.perf_counter()
        chain = self.steps.chain(genotype, batch=self.case.batch, precision=self.case.precision)
        predicted = training_peak(chain, checkpointing=self.case.checkpointing)
        after_prediction = time.perf_counter()
        traced = self._traced(genotype) if trace else ""
        after_trace = time.perf_counter()
        real = self._measured(genotype) if measure else ""
        return {
            **dict(zip(KEY, self.key(genotype), strict=True)),
            "mixers": "/".join(genotype.mixers),
            "predicted_bytes": predicted,
            "upper_bytes": round(predicted * upper_ratio(ratios)),
            "traced_bytes": traced,
            "measured_bytes": real,
            "reserved_bytes": torch.cuda.max_memory_reserved() if measure and self.kind == "cuda" else "",
            "predict_seconds": round(after_prediction - start, 3),
            "trace_seconds": round(after_trace - after_prediction, 3),
            "measure_seconds": round(time.perf_counter() - after_trace, 3),
        }

    def _traced(self, genotype: Genotype) -> int:
        images, targets = self.case.batch_of_zeros("meta")
        return self.device.constant + traced_memory(
            lambda: build(genotype, self.case.interface),
            images,
            targets,
            self.task,
            self.recipe,
            workspaces=self.workspaces,
            device=self.device.traced,
            round_to=self.device.round_to,
        )

    def _measured(self, genotype: Genotype) -> int:
        images, targets = self.case.batch_of_zeros(self.kind)
        model = build(genotype, self.case.interface).to(self.kind)
        if self.kind == "cuda":
            torch.cuda.empty_cache()
        return learning_memory(model, images, targets, self.task, self.recipe)


def checks_per_second(cost: CostModel, budget: Budget, space: Space, *, networks: int = 1000, seed: int = 0) -> float:
    """How many new networks a second are held against ``budget`` on one core, once their parts are known."""
    rng = random.Random(seed)
    drawn = list({space.sample(rng) for _ in range(networks)})
    for genotype in drawn:
        cost(genotype)
    cost.correct()  # forgets the networks, not their parts
    start = time.process_time()
    for genotype in drawn:
        budget.violation(cost(genotype))
    return len(drawn) / (time.process_time() - start)
