"""Score a genotype by training it for a short while: the evaluator that a search is given."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from medsearch.backbones import Interface, Network, build
from medsearch.data import Dataset
from medsearch.spaces import Genotype
from medsearch.train.loop import Epoch, TrainingRecipe, train
from medsearch.train.task import Task


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network with what its training showed.

    Args:
        model: with averaged weights, in eval mode; None where only the scores are wanted.
        error: on the validation split, what a search minimises.
        metrics: on the validation split.
        curve: error after every evaluated epoch.
        stopped: whether training ended early.
        epochs: that were trained.
        seconds: that it took.
    """

    model: nn.Module | None
    error: float
    metrics: dict[str, float]
    curve: tuple[float, ...]
    stopped: bool
    epochs: int
    seconds: float


def fresh(genotype: Genotype, interface: Interface, data: Dataset, *, seed: int) -> Network:
    """The network of ``genotype`` with seeded weights, which knows the mean and deviation of the training images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(genotype, interface)
    mean, std = data.mean_std()
    shape = model.standardize.mean.shape
    model.standardize.mean.copy_(torch.tensor(mean).reshape(shape))
    model.standardize.std.copy_(torch.tensor(std).clamp_min(1e-6).reshape(shape))
    return model.cuda() if torch.cuda.is_available() else model


@dataclass(frozen=True, kw_only=True)
class Training:
    """Trains genotypes on one data set by one recipe.

    Args:
        data: trained and validated on.
        task: loss and metrics.
        interface: of the networks.
        recipe: how to train, the number of epochs included.
        evaluate_every: epochs between evaluations.
    """

    data: Dataset
    task: Task
    interface: Interface
    recipe: TrainingRecipe
    evaluate_every: int = 1

    def __call__(self, genotype: Genotype, bounds: tuple[float, ...] = (), *, keep_model: bool = True) -> Trained:
        """Train from fresh weights; stop where the error after the i-th evaluation is above ``bounds[i]``."""
        curve: list[float] = []
        start = time.monotonic()

        def note(epoch: Epoch) -> bool:
            curve.append(self.task.error(epoch.metrics))
            return len(curve) > len(bounds) or curve[-1] <= bounds[len(curve) - 1]

        model = fresh(genotype, self.interface, self.data, seed=self.recipe.seed)
        averaged, record = train(
            model, self.data, self.task, self.recipe, watch=note, evaluate_every=self.evaluate_every
        )
        return Trained(
            model=averaged.cpu() if keep_model else None,
            error=curve[-1],
            metrics=record[-1].metrics,
            curve=tuple(curve),
            stopped=record[-1].number < self.recipe.epochs,
            epochs=record[-1].number,
            seconds=time.monotonic() - start,
        )
