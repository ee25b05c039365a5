"""What a search works on: data, task, space, interface, and the recipe of its trainings."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from medsearch.backbones import Interface, Network, check
from medsearch.config import SearchConfig
from medsearch.core.children import HERE, Helper
from medsearch.core.errors import UsageError, WriteError
from medsearch.data import Dataset, load
from medsearch.measurement.calibration import Measured
from medsearch.measurement.costs import check_objectives, cost_named
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.timing import Latency
from medsearch.nas import read_strategy
from medsearch.nas.initial_designs import middle
from medsearch.pipeline.measurement import changing_memory, measure
from medsearch.spaces import Genotype, Space, load_space
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target
from medsearch.tasks import Task, make_task, task_type
from medsearch.train import EVALUATORS, TrainingRecipe, fresh
from medsearch.train.workers import held

DEFAULT_SPACE = {2: "hybrid2d-tiny", 3: "hybrid3d-tiny"}
BATCH = {2: 64, 3: 32}
SMALLEST_BATCH = 8
STEPS = 24
CALIBRATION_NETWORKS = 6


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that is fixed before the first proposal.

    It travels without its data, to a process that was given the data when it began.
    """

    data: Dataset
    task: Task
    interface: Interface
    space: Space
    recipe: TrainingRecipe
    target: str = DEFAULT

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "data": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({**state, "data": held()})

    def network(self, genotype: Genotype) -> Network:
        """The network of ``genotype`` as its training begins with it."""
        return fresh(genotype, self.interface, self.data, seed=self.recipe.seed)

    def file(self, genotype: Genotype) -> bytes:
        """The file of an untrained network for the target, as it is timed."""
        return make_target(self.target).export_fast(self.network(genotype), (self._image,))

    def exported(self, genotype: Genotype) -> bytes:
        """The file of an untrained network for the target, as it would be delivered."""
        return make_target(self.target).export(self.network(genotype).cpu().eval(), self._image)

    @property
    def _image(self) -> torch.Tensor:
        return torch.zeros(1, self.data.channels, *self.data.size)

    def changing_memory(self) -> int:
        """Peak bytes of the random changes of a batch."""
        return changing_memory(self.data, self.recipe)

    def costs(
        self,
        genotype: Genotype,
        recipe: TrainingRecipe,
        names: tuple[str, ...],
        artifact: bytes | None = None,
        timing: Latency | None = None,
    ) -> dict[str, Estimate]:
        """Those of the costs called ``names`` of an untrained network that can be measured here.

        Args:
            genotype: of the network.
            recipe: of its training.
            names: of the costs.
            artifact: its file, as it would be delivered; None exports it where a cost asks for it.
            timing: of that file, for costs that are timed.
        """
        if artifact is None:
            artifact = self.exported(genotype) if is_of_file(names) else b""
        network = self.network(genotype)
        return measure(network, self.data, self.task, recipe, artifact=artifact, timing=timing, names=names)

    def measured(
        self,
        genotypes: Sequence[Genotype],
        names: Sequence[str],
        milliseconds: Callable[[Sequence[bytes]], Sequence[float]],
        *,
        helper: Helper = HERE,
    ) -> list[Measured]:
        """The costs called ``names`` of untrained whole networks, of each those that can be measured.

        Endless where a process of ``helper`` died of it.

        Args:
            genotypes: of the networks.
            names: of the costs.
            milliseconds: times files of the target, in turns; what it gives is the value of every timed cost.
            helper: measures the others.
        """
        found: list[dict[str, float]] = [{} for _ in genotypes]
        timed = [name for name in names if cost_named(name, where="measurement").timed]
        if timed:
            files = helper.each(self.file, genotypes, doing="exporting a network")
            times = milliseconds([b"" if isinstance(file, Exception) else file for file in files])
            for each, spent in zip(found, times, strict=True):
                each.update(dict.fromkeys(timed, spent))
        for name in names:
            if name not in timed:
                values = helper.each(partial(self._cost, name), genotypes, doing=f"measuring {name}")
                for each, value in zip(found, values, strict=True):
                    each.update({name: math.inf} if isinstance(value, Exception) else value)
        return list(found)

    def _cost(self, name: str, genotype: Genotype) -> dict[str, float]:
        """One cost of an untrained network by its name, where it can be measured."""
        return {name: found.value for name, found in self.costs(genotype, self.recipe, (name,)).items()}


def is_of_file(names: Sequence[str]) -> bool:
    """Whether any of these costs is measured on an exported file."""
    return any(cost_named(name, where="measurement").of_file for name in names)


def is_timed(names: Sequence[str]) -> bool:
    """Whether any of these costs comes from timing that file."""
    return any(cost_named(name, where="measurement").timed for name in names)


def space_name(config: SearchConfig, data: Dataset) -> str:
    """The space that was asked for, or that of the data's dimensions."""
    return config.space or DEFAULT_SPACE[data.dims]


def interface_of(data: Dataset) -> Interface:
    """What networks for ``data`` take and give."""
    return Interface(task=data.task, channels=data.channels, outputs=data.outputs)


def prepare(config: SearchConfig) -> Setup:
    """Read and check everything that the user named; whatever is wrong with it shows here, before any work."""
    read_strategy(config.strategy, where="--strategy")
    check_objectives(config.objectives, where="--objectives")
    EVALUATORS.find(config.evaluator, where="--evaluator")
    if config.fit_batch and "memory" not in config.budget:
        raise UsageError("--fit-batch", "fits what to?", "Give the memory of a training step: --budget-mem 1GB.")
    data = load(config.data, task=config.task)
    interface = interface_of(data)
    space = load_space(space_name(config, data), task=data.task, like=task_type(data.task).HEAD_LIKE)
    if space.dims != data.dims:
        raise UsageError("--space", f"'{space.name}' is for {space.dims}D images, {data.source} has {data.dims}D ones.")
    check(space, interface)
    open_profile(config)
    task = make_task(data.task, outputs=interface.outputs, dims=data.dims)
    batch = config.batch or default_batch(data)
    lr = TrainingRecipe.lr * math.sqrt(batch / BATCH[2])
    recipe = TrainingRecipe(epochs=1, batch=batch, lr=lr, precision=config.precision or "fp32", seed=config.seed)
    return Setup(data=data, task=task, interface=interface, space=space, recipe=recipe, target=config.target)


def samples(setup: Setup) -> list[Genotype]:
    """Random networks to calibrate by, the middle one first."""
    rng = random.Random(setup.recipe.seed)
    drawn = [middle(setup.space)]
    drawn += [setup.space.sample(rng) for _ in range(CALIBRATION_NETWORKS - 1)]
    return list(dict.fromkeys(drawn))


def default_batch(data: Dataset) -> int:
    """A power of two that leaves at least some ``STEPS`` steps in an epoch, so that small sets are learned from too."""
    most = min(BATCH[data.dims], max(SMALLEST_BATCH, len(data.train) // STEPS))
    return min(1 << (most.bit_length() - 1), len(data.train))


def open_profile(config: SearchConfig) -> Profile:
    """The profile that latencies are predicted by.

    Raises:
        UsageError: if there is no file that was asked for.
        RunError: if it is damaged, or of another device, target or number of threads.
    """
    if config.profile is not None and not Path(config.profile).is_file():
        remedy = f"Make one here: medsearch doctor --profile -o {config.profile}"
        raise UsageError("--profile", f"there is no file '{config.profile}'.", remedy)
    file = Path(config.profile) if config.profile else None
    return Profile(threads=config.latency_threads, target=config.target, file=file)


def save_in_cache(profile: Profile) -> str:
    """Save what was timed; nothing depends on it, so where the cache cannot be written, that is only to be said."""
    try:
        profile.save()
    except WriteError as problem:
        return f"{problem.where}: {problem.problem}  What was timed will be timed again."
    return ""


def with_precision(setup: Setup, precision: str) -> Setup:
    """The same setup, trained in ``precision``."""
    return replace(setup, recipe=replace(setup.recipe, precision=precision))
