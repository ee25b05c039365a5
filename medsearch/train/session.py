"""A training that can be paused after any step and continued, in this process or in another.

What a session is, is one plain dictionary: weights, their average, the optimizer's moments, and how many steps were
made.  The order of the images and their random changes follow from the seed and the number of the step, so that a
training that was paused, killed or moved goes on exactly as it would have.

The learning rate rises over the first steps and then stays, so that nothing has to be known of the end; whoever wants
the result lets it fall over a last leg (warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395; the fall by
1 - sqrt: Hägele et al. 2024, arXiv:2405.18392).  Until then the averaged weights stand for what the fall would give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.data import Dataset
from medsearch.tasks import Task
from medsearch.train.loop import Stepper, TrainingError, TrainingRecipe, evaluate
from medsearch.train.normalisation import BATCHES, recalibrate

FORWARD = 0.5
"""What an image costs in an evaluation, as a share of a training step: a third, and what 16 bits save in the step."""
ORDER, CHANGES = 0x5EED, 0xC4A9
"""Keep the random numbers of the order apart from those of the changes."""


@dataclass(frozen=True, kw_only=True)
class Leg:
    """How far a training goes on from where it stands; it ends where the first of these does.

    Args:
        steps: of the whole training, all legs together; where as many were made before, the leg makes none.
        seconds: of the whole training and its evaluations likewise; not before ``least`` steps of this leg.
        within: seconds of wall-clock time from now, the evaluation after the leg included.
        least: see ``seconds``.
        falls: whether the learning rate falls to 0 over this leg, by ``steps`` or ``within``.
    """

    steps: int | None = None
    seconds: float | None = None
    within: float | None = None
    least: int = 1
    falls: bool = False

    def __post_init__(self) -> None:
        ends = (self.steps, self.within) if self.falls else (self.steps, self.seconds, self.within)
        assert any(end is not None for end in ends), "a leg needs an end"


class Session:
    """A training of one network on one data set.

    Args:
        model: takes raw intensities (B, C, *S); trained in place.
        data: its training split is trained on, its validation split evaluated.
        task: loss and metrics.
        recipe: how to train; its epochs are not used.
        clock: seconds that pass, for tests.

    Attributes:
        seconds: of training and evaluations so far.
        training_seconds: of training alone.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        task: Task,
        recipe: TrainingRecipe,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.data, self.task, self.recipe, self.clock = data, task, recipe, clock
        self.stepper = Stepper(model, data.dims, task, recipe)
        self.per_epoch = math.ceil(len(data.train) / recipe.batch)
        self.seconds = self.training_seconds = 0.0
        self._leg: tuple[int, float] | None = None  # first step and seconds so far of a fall that was paused
        self._evaluated: float | None = None

    @property
    def steps(self) -> int:
        """Steps made so far."""
        return self.stepper.steps

    @property
    def epochs(self) -> float:
        """Passes over the training split so far."""
        return self.steps / self.per_epoch

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged weights, in evaluation mode."""
        return self.stepper.averaged.eval()

    def run(self, leg: Leg, *, pause: Callable[[], object] | None = None) -> float:
        """Train to the end of ``leg``, or of what is left of it after a pause; returns the mean loss of its steps.

        Args:
            leg: how far.
            pause: called after every epoch; what :meth:`state` gives then goes on within the leg.

        Raises:
            TrainingError: if the loss is no longer finite.
        """
        first, before = self._leg or (self.steps, 0.0)
        begun, kept, trained = self.clock(), self.seconds, self.training_seconds
        losses: list[Tensor] = []
        for images, targets in self._batches():
            passed = self.clock() - begun
            self.seconds, self.training_seconds = kept + passed, trained + passed
            left = None if leg.within is None else leg.within - self._evaluation(passed, len(losses))
            progress = max(
                0.0 if leg.steps is None else _share(self.steps - first, leg.steps - first),
                0.0 if left is None else _share(before + passed, before + left),
            )
            enough = leg.seconds is not None and self.seconds >= leg.seconds and len(losses) >= leg.least
            behind = leg.steps is not None and leg.steps <= self.steps
            if (progress >= 1 and (losses or behind)) or enough:
                break
            lr = self.recipe.lr * min(1.0, (self.steps + 1) / self.recipe.rise)
            if leg.falls:
                lr *= 1 - math.sqrt(min(1.0, progress))
            losses.append(self._step(images, targets, lr))
            if self.steps % self.per_epoch == 0:
                self._check(losses[-self.per_epoch :])
                self._leg = (first, before + passed) if leg.falls else None
                if pause is not None:
                    pause()
        self._check(losses)
        passed = self.clock() - begun
        self._leg, self.seconds, self.training_seconds = None, kept + passed, trained + passed
        return float(torch.stack(losses).mean()) if losses else math.nan

    def _evaluation(self, passed: float, steps: int) -> float:
        """Seconds that an evaluation takes: as the last one did, or by those of a step, of which it is a part."""
        if self._evaluated is not None or not steps:
            return self._evaluated or 0.0
        images = len(self.data.val) + BATCHES * self.recipe.batch
        return FORWARD * passed / steps * images / self.recipe.batch

    def evaluate(self) -> dict[str, float]:
        """The task's metrics on the validation split by averaged weights and statistics that belong to them.

        Raises:
            TrainingError: if an output is not finite.
        """
        begun = self.clock()
        recalibrate(self.stepper.averaged, self.data, batch=self.recipe.batch)
        found = evaluate(self.stepper.averaged, self.data.val, self.task)
        self._evaluated = self.clock() - begun
        self.seconds += self._evaluated
        return found

    def state(self) -> dict[str, Any]:
        """All that is needed to go on: tensors and plain values."""
        return {
            "model": self.stepper.model.state_dict(),
            "averaged": self.stepper.averaged.state_dict(),
            "optimizer": self.stepper.optimizer.state_dict(),
            "steps": self.steps,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "leg": self._leg,
            "evaluated": self._evaluated,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave, of the same network, data and recipe."""
        self.stepper.model.load_state_dict(state["model"])
        self.stepper.averaged.load_state_dict(state["averaged"])
        self.stepper.optimizer.load_state_dict(state["optimizer"])
        self.stepper.steps, self.seconds = int(state["steps"]), float(state["seconds"])
        self.training_seconds = float(state["training_seconds"])
        self._leg, self._evaluated = state["leg"], state["evaluated"]

    def _step(self, images: np.ndarray, targets: np.ndarray, lr: float) -> Tensor:
        rng = _generator(self.recipe.seed, CHANGES, self.steps)
        devices = [self.stepper.device] if self.stepper.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # of layers that draw, as dropout does
            torch.manual_seed(_seed(self.recipe.seed, CHANGES, self.steps))
            return self.stepper(images, targets, lr, rng)

    def _batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches without end, from where the training stands; those of an epoch are of equal size, give or take one.

        A last batch of a single image would have no batch statistics.
        """
        split = self.data.train
        while True:
            epoch, at = divmod(self.steps, self.per_epoch)
            order = torch.randperm(len(split), generator=_generator(self.recipe.seed, ORDER, epoch)).numpy()
            for chosen in np.array_split(order, self.per_epoch)[at:]:
                yield split.images[chosen], split.targets[chosen]

    def _check(self, losses: list[Tensor]) -> None:
        if losses and not math.isfinite(mean := float(torch.stack(losses).mean())):
            where = f"step {self.steps}"
            raise TrainingError("training", f"the loss before {where} is {mean}.", "Lower the learning rate.")


def _share(done: float, total: float) -> float:
    return done / total if total > 0 else 1.0


def _seed(*numbers: int) -> int:
    """One seed of several numbers (SplitMix64, Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*numbers))
