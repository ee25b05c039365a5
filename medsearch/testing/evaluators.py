"""The contract of an evaluator (``medsearch.train.evaluator``)."""

from __future__ import annotations

import math
import pickle
from typing import cast

import numpy as np

from medsearch.backbones import Interface
from medsearch.data import Dataset, Split
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.tasks import make_task
from medsearch.testing.contract import registered, wants
from medsearch.train import EVALUATORS, Evaluation, Evaluator, TrainingRecipe

SIZE, CLASSES = (8, 8), ("a", "b")


def check_evaluator(evaluator: str | type) -> None:
    """Everything that is wanted of an evaluator, by two small networks on images of two classes."""
    name, kind = registered(EVALUATORS, evaluator)
    wants(issubclass(kind, Evaluator), f"evaluator {name}: is a class derived from medsearch.train.Evaluator.")
    data = toy_dataset()
    task, interface = make_task(data.task, outputs=2, dims=2), Interface(task=data.task, channels=1, outputs=2)
    recipe = TrainingRecipe(epochs=2, batch=8)
    made = cast(Evaluator, kind(data=data, task=task, interface=interface, recipe=recipe))
    for mixer in ("dwconv", "linear_attention"):
        found = made(_genotype(mixer))
        _check_evaluation(name, found)
        again = made(_genotype(mixer))
        same = math.isclose(found.error, again.error, rel_tol=1e-4, abs_tol=1e-6)
        wants(same, f"evaluator {name}: the same network gives {found.error}, then {again.error}; seed what is random.")
    try:
        data.open_test()
    except Exception as problem:
        raise AssertionError(f"evaluator {name}: reads the test split, which stays sealed until the end.") from problem


def _check_evaluation(name: str, found: Evaluation) -> None:
    seen = type(found).__name__
    wants(isinstance(found, Evaluation), f"evaluator {name}: returns a medsearch.train.Evaluation, got {seen}.")
    plain = type(found.error) is float and math.isfinite(found.error)
    wants(plain, f"evaluator {name}: the error is a finite float, got {found.error!r}.")
    numbers = all(type(value) is float for value in found.metrics.values())
    wants(numbers, f"evaluator {name}: metrics are floats by name, got {found.metrics}.")
    wants(found.seconds >= 0, f"evaluator {name}: seconds are those that it took, got {found.seconds}.")
    wants(pickle.loads(pickle.dumps(found)).error == found.error, f"evaluator {name}: what it returns cannot travel.")


def toy_dataset() -> Dataset:
    """Dark and bright images, four dozen in all."""
    rng = np.random.default_rng(0)
    train, val, test = (_split(rng, count) for count in (24, 12, 12))
    return Dataset(
        name="toy",
        source="toy",
        task="classification",
        dims=2,
        channels=1,
        size=SIZE,
        classes=CLASSES,
        train=train,
        val=val,
        test=test,
    )


def _split(rng: np.random.Generator, count: int) -> Split:
    targets = np.arange(count) % len(CLASSES)
    images = rng.uniform(0, 200, (count, 1, *SIZE)) + 50 * targets.reshape(-1, 1, 1, 1)
    return Split(images=images.astype(np.float32), targets=targets)


def _genotype(mixer: str) -> Genotype:
    block = Block(Part.of(mixer), Part.of("mlp", ratio=2))
    return Genotype(2, Part.of("conv", stride=2), (Stage(8, (block,)),), Part.of("classify"))
