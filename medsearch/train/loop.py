"""Train a network for a fixed number of epochs: AdamW, one learning-rate cycle, averaged weights, mixed precision.

Source: AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), the one-cycle schedule (Smith & Topin 2019,
arXiv:1708.07120) with cosine annealing, exponential moving average of the weights for evaluation.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.backbones import Network
from medsearch.core.errors import MedsearchError
from medsearch.data import Dataset, Split
from medsearch.tasks import Task
from medsearch.train.augment import Augment
from medsearch.train.checkpointing import checkpointed


class TrainingError(MedsearchError):
    """Training that cannot go on, for example because the loss is no longer a number."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """How to train.

    Args:
        epochs: passes over the training split.
        batch: images per step.
        lr: peak learning rate, reached after ``warmup`` of all steps.
        weight_decay: on matrices and filters; never on norms, biases and single scales.
        warmup: share of the steps in which the learning rate rises, in a training whose end is known.
        rise: steps in which it rises where the end is not known (see :mod:`medsearch.train.session`).
        average: decay per step of the averaged weights (raised from 0 in the first steps).
        clip: largest norm of the gradient.
        precision: ``"fp32"`` or ``"bf16"`` (autocast, weights stay fp32).
        accumulate: pieces in which a batch goes through the network, one after the other, before the weights move.
        checkpointing: whether blocks keep their input alone and are run again in the backward pass.
        augment: random changes of the images.
        seed: of weights, order and augmentation.
    """

    epochs: int
    batch: int = 64
    lr: float = 4e-3
    weight_decay: float = 0.05
    warmup: float = 0.15
    rise: int = 30
    average: float = 0.99
    clip: float = 1.0
    precision: str = "fp32"
    accumulate: int = 1
    checkpointing: bool = False
    augment: Augment = field(default_factory=Augment)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch of training showed: mean loss, and metrics on the validation split."""

    number: int
    loss: float
    metrics: dict[str, float]


def train(
    model: nn.Module,
    data: Dataset,
    task: Task,
    recipe: TrainingRecipe,
    *,
    watch: Callable[[Epoch], bool] | None = None,
    evaluate_every: int = 1,
    teacher: nn.Module | None = None,
) -> tuple[nn.Module, list[Epoch]]:
    """Train ``model`` in place and return a copy with averaged weights, in eval mode, with the epochs' record.

    Args:
        model: takes raw intensities (B, C, *S).
        data: its training split is trained on, its validation split evaluated.
        task: loss and metrics.
        recipe: how to train.
        watch: called after every evaluated epoch; returning False ends the training there.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        teacher: a network whose outputs are matched beside the targets (knowledge distillation).

    Raises:
        TrainingError: if the loss or an output is no longer finite.
    """
    rng = torch.Generator().manual_seed(recipe.seed)
    stepper = Stepper(model, data.dims, task, recipe, teacher=teacher)
    total = math.ceil(len(data.train) / recipe.batch) * recipe.epochs
    record: list[Epoch] = []
    for number in range(1, recipe.epochs + 1):
        losses = []
        for images, targets in _batches(data.train, recipe.batch, rng):
            lr = recipe.lr * one_cycle(stepper.steps / total, recipe.warmup)
            losses.append(stepper(images, targets, lr, rng))
        mean = float(torch.stack(losses).mean())
        if not math.isfinite(mean):
            raise TrainingError("training", f"the loss of epoch {number} is {mean}.", "Lower the learning rate.")
        if number % evaluate_every == 0 or number == recipe.epochs:
            metrics = evaluate(stepper.averaged, data.val, task)
            record.append(Epoch(number=number, loss=mean, metrics=metrics))
            if watch is not None and not watch(record[-1]):
                break
    return stepper.averaged.eval(), record


class Stepper:
    """One training step after another: the model, its averaged copy and the optimizer.

    Args:
        model: trained in place.
        dims: spatial axes, 2 or 3.
        task: gives the loss.
        recipe: how to train.
        teacher: matched beside the targets, if given.
    """

    def __init__(
        self, model: nn.Module, dims: int, task: Task, recipe: TrainingRecipe, *, teacher: nn.Module | None = None
    ) -> None:
        self.layout = torch.channels_last if dims == 2 else torch.channels_last_3d
        self.model = _channels_last(model, dims).train()
        self.runs = _checkpointed(self.model) if recipe.checkpointing else self.model
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self.task, self.recipe, self.teacher = task, recipe, teacher
        self.device = next(model.parameters()).device
        self.optimizer = _optimizer(model, recipe)
        self.steps = 0

    def __call__(self, images: np.ndarray, targets: np.ndarray, lr: float, rng: torch.Generator) -> Tensor:
        """Learn from one batch of raw images (B, C, *S) and return its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        changed, wanted = self.recipe.augment(torch.from_numpy(images).float(), self.task.TARGET.tensor(targets), rng)
        return self.learn(changed, wanted)

    def learn(self, images: Tensor, targets: Tensor) -> Tensor:
        """Learn from one batch as it is, and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(images, targets)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.steps += 1
        _follow(self.averaged, self.model, min(self.recipe.average, self.steps / (self.steps + 10)))
        return loss

    def _gradients(self, images: Tensor, targets: Tensor) -> Tensor:
        """Add up the gradients of the batch's pieces, weighted by their images; returns the mean loss."""
        pieces = min(self.recipe.accumulate, len(images))
        losses = []
        for piece, wanted in zip(images.tensor_split(pieces), targets.tensor_split(pieces), strict=True):
            loss = self._loss(piece.to(self.device, memory_format=self.layout), wanted.to(self.device))
            loss = loss * (len(piece) / len(images))
            loss.backward()
            losses.append(loss.detach())
            del loss
        return torch.stack(losses).sum()

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        output = self._output(self.runs, images)
        loss = self.task.loss(output, targets)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            wanted = self._output(self.teacher, images)
        return 0.5 * loss + 0.5 * self.task.match(output, wanted)

    def _output(self, model: nn.Module, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            return model(images).float()

    def resident(self) -> list[Tensor]:
        """The tensors that live from step to step: weights, their average, and the optimizer's moments."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        models = [*self.model.state_dict().values(), *self.averaged.state_dict().values()]
        return [tensor for tensor in (*models, *moments) if isinstance(tensor, Tensor)]


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, task: Task, *, batch: int = 128) -> dict[str, float]:
    """The task's metrics over a whole split, in fp32 and eval mode; the model's own mode is kept.

    Raises:
        TrainingError: if an output is not finite, for which metrics would still find a number.
    """
    output = predict(model, split.images, batch=batch)
    if not torch.isfinite(output).all():
        raise TrainingError("evaluation", "the network gives values that are not finite.", "Lower the learning rate.")
    return task.metrics(output, task.TARGET.tensor(split.targets))


@torch.no_grad()
def predict(model: nn.Module, images: np.ndarray, *, batch: int = 128) -> Tensor:
    """Outputs for raw images (N, C, *S), on the CPU, in fp32."""
    mode = model.training
    model.eval()
    device = next(model.parameters()).device
    outputs = [
        model(torch.from_numpy(images[i : i + batch]).to(device).float()).float().cpu()
        for i in range(0, len(images), batch)
    ]
    model.train(mode)
    return torch.cat(outputs)


def one_cycle(progress: float, warmup: float) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1: a linear rise, then half a cosine down to zero."""
    if progress < warmup:
        return max(progress / warmup, 0.04)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _batches(split: Split, batch: int, rng: torch.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The split in random order, in batches of equal size: a last one of a single image would have no batch norm."""
    order = torch.randperm(len(split), generator=rng).numpy()
    for chosen in np.array_split(order, math.ceil(len(order) / batch)):
        yield split.images[chosen], split.targets[chosen]


def _channels_last(model: nn.Module, dims: int) -> nn.Module:
    """Lay out the filters for channels-last images, in place; vectors and matrices have no such layout."""
    layout = torch.channels_last if dims == 2 else torch.channels_last_3d
    for tensor in model.parameters():
        if tensor.ndim == dims + 2:
            tensor.data = tensor.data.contiguous(memory_format=layout)
    return model


def _checkpointed(model: nn.Module) -> nn.Module:
    assert isinstance(model, Network), "only a network of stages and blocks knows what to run again"
    return checkpointed(model)


def _optimizer(model: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.squeeze().ndim > 1]
    free = [p for p in model.parameters() if p.squeeze().ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)


@torch.no_grad()
def _follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights, and the statistics of the norms with them, towards the model's."""
    kept = [tensor for tensor in averaged.state_dict().values() if tensor.is_floating_point()]
    current = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    torch._foreach_lerp_(kept, current, 1 - decay)
