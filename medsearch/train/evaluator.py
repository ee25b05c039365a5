"""What a search tries networks with: ``Genotype -> Evaluation``.  One evaluator a file, here or in a plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from medsearch.backbones import Interface, Network, build
from medsearch.core.registry import Registry
from medsearch.data import Dataset
from medsearch.spaces import Genotype
from medsearch.tasks import Task
from medsearch.train.loop import TrainingRecipe
from medsearch.train.session import Leg

EVALUATORS = Registry("evaluator", "medsearch.train.evaluators")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What trying a genotype showed; plain enough to travel between processes.

    Args:
        error: on the validation split, what a search minimises; smaller is better.
        metrics: on the validation split, as far as they are known.
        seconds: of training and evaluation so far, those of earlier legs included.
        training_seconds: those of training steps alone.
        epochs: passes over the training split so far, where it trains.
    """

    error: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    training_seconds: float = 0.0
    epochs: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trained(Evaluation):
    """A trained network with what its training showed.

    Args:
        model: with averaged weights, in eval mode, on the CPU; None where only the scores are wanted.
    """

    model: nn.Module | None


@dataclass(frozen=True, kw_only=True)
class Evaluator(ABC):
    """Tries genotypes on one data set.  A search makes one in each worker process, and calls it there.

    The same genotype gives the same error again, as far as the machine computes the same; the test split stays sealed.

    Args:
        data: its training split may be learnt from; its validation split judges.
        task: loss and metrics.
        interface: of the networks.
        recipe: how the search trains, with the epochs of a trial, the batch, the precision and the seed.
        leg: how far a training goes on from its checkpoint; None trains anew for the recipe's epochs.
        checkpoint: the file that a training goes on from, if it is there, and that it leaves its state in.
    """

    CONTINUES: ClassVar[bool] = False
    """Whether a better score can be had by going on from the checkpoint; else a genotype is tried once."""

    data: Dataset
    task: Task
    interface: Interface
    recipe: TrainingRecipe
    leg: Leg | None = None
    checkpoint: Path | None = None

    @abstractmethod
    def __call__(self, genotype: Genotype) -> Evaluation:
        """Try ``genotype``.  What it raises makes the trial a failed one, with that as its reason."""

    def network(self, genotype: Genotype) -> Network:
        """The untrained network of ``genotype``, seeded by the recipe, on the device that computes."""
        return fresh(genotype, self.interface, self.data, seed=self.recipe.seed)


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
