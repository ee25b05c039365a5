"""Train a network for a time given, the way a person would by hand: one cycle of AdamW, the best epoch kept.

Written apart from ``medsearch.train`` on purpose, so that a rival does not depend on what a search trains by.

Shapes: B batch, C channels, S spatial axes, K outputs.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsearch.data import Dataset
from medsearch.tasks import Task
from medsearch.train import TrainingError, evaluate

WEIGHT_DECAY, WARM_UP, SMOOTHING, AVERAGE = 0.05, 0.1, 0.1, 0.99
SHIFT, CONTRAST = 3, 0.1
"""Largest shift in pixels, and largest relative change of contrast."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The epoch that was best on the validation split.

    Args:
        model: with averaged weights, in eval mode.
        metrics: on the validation split.
        epochs: that were begun in all.
    """

    model: nn.Module
    metrics: dict[str, float]
    epochs: int


def train_one_cycle(
    model: nn.Module, data: Dataset, task: Task, *, seconds: float, lr: float, batch: int, seed: int
) -> Kept:
    """Train ``model`` in place for ``seconds`` by the clock, evaluations included.

    The learning rate rises over the first tenth of the time and falls to zero along a cosine.  Every epoch is evaluated
    with averaged weights; the last one may be a part of one, so that its evaluation is within the time too.

    Args:
        model: takes raw intensities (B, C, *S).
        data: its training split is trained on, its validation split chooses the epoch.
        task: metrics, and which error decides.
        seconds: wall-clock time.
        lr: peak learning rate.
        batch: images per step.
        seed: of order and changes.

    Raises:
        TrainingError: if the outputs are no longer finite before any epoch was evaluated.
    """
    start, rng = time.monotonic(), torch.Generator().manual_seed(seed)
    layout = torch.channels_last if data.dims == 2 else torch.channels_last_3d
    model = model.to(memory_format=layout).train()  # type: ignore[call-overload]
    averaged = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)
    loss_of = _mask_loss if task.DENSE else _class_loss
    kept: Kept | None = None
    steps, epochs, evaluation = 0, 0, 0.0
    while kept is None or time.monotonic() - start < seconds - evaluation:
        epochs += 1
        for chosen in _batches(len(data.train), batch, rng):
            spent = time.monotonic() - start
            if steps and spent >= seconds - evaluation:
                break
            for group in optimizer.param_groups:
                group["lr"] = lr * rate(spent / seconds)
            images = torch.from_numpy(data.train.images[chosen]).float()
            images, targets = changed(images, task.TARGET.tensor(data.train.targets[chosen]), rng, dense=task.DENSE)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16):
                output = model(images.to(memory_format=layout))
            loss_of(output.float(), targets).backward()
            optimizer.step()
            steps += 1
            _follow(averaged, model, min(AVERAGE, steps / (steps + 10)))
        before = time.monotonic()
        try:
            metrics = evaluate(averaged, data.val, task)
        except TrainingError:
            if kept is None:
                raise
            break
        evaluation = time.monotonic() - before
        if kept is None or task.error(metrics) < task.error(kept.metrics):
            kept = Kept(model=copy.deepcopy(averaged).eval(), metrics=metrics, epochs=epochs)
    return Kept(model=kept.model, metrics=kept.metrics, epochs=epochs)


def rate(progress: float) -> float:
    """Share of the peak learning rate at ``progress`` in 0..1: a line up, then half a cosine down to zero."""
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((progress - WARM_UP) / (1 - WARM_UP), 1.0)))


def changed(images_BCS: Tensor, targets: Tensor, rng: torch.Generator, *, dense: bool) -> tuple[Tensor, Tensor]:
    """A batch after one random flip, quarter turn and shift of all of it, and a change of contrast for each image.

    Args:
        images_BCS: raw intensities.
        targets: classes (B,), or masks (B, *S), which move with the images.
        rng: draws the changes.
        dense: whether targets are masks.
    """
    spatial = images_BCS.shape[2:]
    dims = len(spatial)

    def draw(count: int) -> int:
        return int(torch.randint(count, (1,), generator=rng))

    moves: list[Callable[[Tensor], Tensor]] = []
    if flipped := [axis - dims for axis in range(dims) if draw(2)]:
        moves.append(lambda x: x.flip(flipped))
    turns = draw(4) if spatial[-1] == spatial[-2] else 2 * draw(2)
    moves.append(lambda x: x.rot90(turns, (-2, -1)))
    for axis, length in enumerate(spatial):
        positions = (torch.arange(length) + draw(2 * SHIFT + 1) - SHIFT).clamp(0, length - 1)
        moves.append(lambda x, axis=axis, positions=positions: x.index_select(axis - dims, positions))  # type: ignore[misc]
    for move in moves:
        images_BCS, targets = move(images_BCS), move(targets) if dense else targets
    mean = images_BCS.mean(dim=tuple(range(2, 2 + dims)), keepdim=True)
    factor = 1 + CONTRAST * (2 * torch.rand(len(images_BCS), *(1,) * (1 + dims), generator=rng) - 1)
    return mean + (images_BCS - mean) * factor, targets


def _class_loss(output_BK: Tensor, target_B: Tensor) -> Tensor:
    return F.cross_entropy(output_BK, target_B, label_smoothing=SMOOTHING)


def _mask_loss(output_BKS: Tensor, target_BS: Tensor) -> Tensor:
    """Cross-entropy plus one minus the soft Dice of the foreground classes over the batch (arXiv:1606.04797, eq. 3)."""
    share_BKS = output_BKS.softmax(1)
    wanted_BKS = F.one_hot(target_BS, output_BKS.shape[1]).movedim(-1, 1)
    axes = (0, *range(2, output_BKS.ndim))
    both_K, all_K = (share_BKS * wanted_BKS).sum(axes), (share_BKS + wanted_BKS).sum(axes)
    dice_K = (2 * both_K + 1) / (all_K + 1)
    return F.cross_entropy(output_BKS, target_BS) + 1 - dice_K[1:].mean()


def _batches(count: int, batch: int, rng: torch.Generator) -> list[np.ndarray]:
    """All positions in random order, in batches that differ by one at most: a batch of one image has no norm."""
    return np.array_split(torch.randperm(count, generator=rng).numpy(), math.ceil(count / batch))


@torch.no_grad()
def _follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, now in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(now, 1 - decay)
