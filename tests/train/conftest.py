"""Toy problems that a network of a thousand weights solves in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medsearch.backbones import Interface
from medsearch.data import Dataset, Split
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.tasks import make_task
from medsearch.train import Training, TrainingRecipe
from medsearch.train.augment import Augment

NO_CHANGE = Augment(flip=False, turn=False, shift=0.0, intensity=0.0)
SIDE = {2: 12, 3: 8}


def _split(task: str, dims: int, count: int, rng: np.random.Generator) -> Split:
    """Noise around 100 with a brighter half (classes: which half; masks: where; clean: the same without the noise)."""
    size = (SIDE[dims],) * dims
    upper = np.zeros(size, bool)
    upper[: SIDE[dims] // 2] = True
    side_N = np.arange(count) % 2
    bright_NS = np.stack([upper if side else ~upper for side in side_N])
    clean_NS = np.where(bright_NS, 140, 60).astype(np.float32)
    images = (clean_NS + rng.normal(0, 20, clean_NS.shape)).astype(np.float32)[:, None]
    targets = {
        "classification": side_N.astype(np.int64),
        "segmentation": bright_NS.astype(np.uint8),
        "denoising": clean_NS[:, None],
    }
    return Split(images=images, targets=targets[task])


def toy_data(task: str, dims: int) -> Dataset:
    """36 images to train on, 16 to validate and 8 to test."""
    rng = np.random.default_rng(0)
    train, val, test = (_split(task, dims, count, rng) for count in (36, 16, 8))
    return Dataset(
        name="toy",
        source="toy",
        task=task,
        dims=dims,
        channels=1,
        size=(SIDE[dims],) * dims,
        classes=() if task == "denoising" else ("one", "other"),
        train=train,
        val=val,
        test=test,
    )


def toy_genotype(task: str, dims: int) -> Genotype:
    """Convolution, then attention, eight channels each."""
    head = Part.of("classify") if task == "classification" else Part.of("pyramid", dim=8, detail=4)
    convolution = Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2), layer_scale=0.5)
    attention = Block(Part.of("linear_attention", head_dim=4), Part.of("mlp", ratio=2))
    stages = (Stage(8, (convolution,)), Stage(8, (attention,), Part.of("conv3s2")))
    return Genotype(dims, Part.of("conv", stride=2), stages, head)


@pytest.fixture
def genotype() -> Callable[..., Genotype]:
    return toy_genotype


@pytest.fixture
def training() -> Callable[..., Training]:
    """``training(task, dims, epochs=..., lr=..., ...)``: without random changes unless ``augment`` is given."""

    def make(task: str = "classification", dims: int = 2, **changes: Any) -> Training:
        data = toy_data(task, dims)
        interface = Interface(task=task, channels=1, outputs=len(data.classes) or 1)
        recipe = TrainingRecipe(**{"epochs": 2, "batch": 12, "lr": 0.02, "augment": NO_CHANGE, **changes})
        task_found = make_task(task, outputs=interface.outputs, dims=dims)
        return Training(data=data, task=task_found, interface=interface, recipe=recipe)

    return make
