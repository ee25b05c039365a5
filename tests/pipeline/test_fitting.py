"""Each network trained in the plan whose step keeps the limit; what was chosen keeps it for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medsearch.backbones import Interface
from medsearch.core.config import parse_yaml
from medsearch.data import Dataset, Split
from medsearch.measurement.device import Profile
from medsearch.measurement.memory.inference import forward_peak
from medsearch.measurement.model import Conditions, CostModel
from medsearch.pipeline.fitting import Fitting
from medsearch.pipeline.measurement import changing_memory
from medsearch.spaces import Genotype, read_space
from medsearch.tasks import make_task
from medsearch.train import TrainingRecipe, fresh
from medsearch.train.step_cost import step_memory

SPACE = """\
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - {dim: 16, depth: 3, mixer: {name: dwconv, kernel: 3}, channel: {name: mlp, ratio: 4}}
"""
RECIPE = TrainingRecipe(epochs=1, batch=32)


@pytest.fixture(scope="module")
def genotype() -> Genotype:
    return read_space(parse_yaml(SPACE, "tiny").value, "tiny").first()


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    split = Split(images=rng.random((32, 1, 32, 32), np.float32), targets=np.arange(32) % 2)
    shape = {"dims": 2, "channels": 1, "size": (32, 32), "classes": ("one", "other")}
    return Dataset(name="d", source="d", task="classification", train=split, val=split, test=split, **shape)


@pytest.fixture(scope="module")
def cost(tmp_path_factory: pytest.TempPathFactory) -> CostModel:
    task = make_task("classification", outputs=2, dims=2)
    return CostModel(
        Interface(task="classification", channels=1, outputs=2),
        Conditions(size=(32, 32), batch=RECIPE.batch, precision="fp32"),
        Profile(threads=1, folder=Path(tmp_path_factory.mktemp("profile"))),
        loss=task.loss,
        any_batch=True,
    )


def test_without_a_limit_nothing_changes(cost: CostModel, genotype: Genotype) -> None:
    fitting = Fitting(cost=cost, recipe=RECIPE)
    assert fitting.recipe_of(genotype) == RECIPE
    assert fitting.facts(genotype) == {}
    assert fitting(genotype)["memory"] == cost(genotype)["memory"]


def test_a_whole_batch_that_fits_is_trained_as_asked(cost: CostModel, genotype: Genotype) -> None:
    fitting = Fitting(cost=cost, recipe=RECIPE, limit=1.01 * cost(genotype)["memory"].high)
    assert fitting.recipe_of(genotype) == RECIPE
    assert fitting(genotype)["memory"] == cost(genotype)["memory"]


@pytest.mark.parametrize("precisions", [("fp32",), ("fp32", "bf16")])
@pytest.mark.parametrize("share", [0.7, 0.4, 0.2])
def test_what_is_chosen_keeps_the_limit_for_real(
    cost: CostModel, genotype: Genotype, data: Dataset, share: float, precisions: tuple[str, ...]
) -> None:
    """The batch that is learned from stays.

    Parts are traced at two batches, and what a library takes inside an operator need not grow evenly with the images:
    five percent are for that.
    """
    limit = share * cost(genotype)["memory"].value
    fitting = Fitting(cost=cost, recipe=RECIPE, limit=limit, precisions=precisions)
    recipe, task = fitting.recipe_of(genotype), make_task("classification", outputs=2, dims=2)
    assert fitting(genotype)["memory"].high <= limit
    assert recipe.batch == RECIPE.batch
    assert (recipe.accumulate, recipe.precision, recipe.checkpointing) != (1, "fp32", False)
    assert recipe.precision in precisions
    assert fitting.facts(genotype)["training_plan"]["accumulate"] == recipe.accumulate
    real = step_memory(fresh(genotype, cost.interface, data, seed=0), data, task, recipe)
    assert real <= 1.05 * limit
    assert 0.95 * fitting(genotype)["memory"].low <= real <= 1.05 * fitting(genotype)["memory"].high


def test_no_piece_is_smaller_than_the_changes_of_a_batch(cost: CostModel, genotype: Genotype, data: Dataset) -> None:
    """Two images at once take less than the random changes of all 128, which no plan of training makes smaller.

    The changes run no operator that takes anything inside itself, so that this is the same on every processor.
    """
    many = replace(RECIPE, batch=128)
    changing = changing_memory(data, many)
    fitting = Fitting(cost=cost, recipe=many, limit=1.0, changing=changing)
    found, task = fitting(genotype)["memory"], make_task("classification", outputs=2, dims=2)
    recipe = fitting.recipe_of(genotype)
    assert found.value > changing
    assert Fitting(cost=cost, recipe=many, limit=1.0)(genotype)["memory"].value < found.value
    real = step_memory(fresh(genotype, cost.interface, data, seed=0), data, task, recipe)
    assert 0.99 * found.value <= real <= found.value


def test_where_no_way_fits_the_least_is_said(cost: CostModel, genotype: Genotype) -> None:
    least = Fitting(cost=cost, recipe=RECIPE, limit=1.0)(genotype)["memory"].value
    assert least < 0.2 * cost(genotype)["memory"].value
    assert Fitting(cost=cost, recipe=RECIPE, limit=1.001 * least)(genotype)["memory"].value <= 1.001 * least


def test_what_a_correction_learns_later_counts(cost: CostModel, genotype: Genotype) -> None:
    limit = 1.01 * cost(genotype)["memory"].high
    fitting, before = Fitting(cost=cost, recipe=RECIPE, limit=limit), cost.corrections["memory"]
    assert fitting.recipe_of(genotype) == RECIPE
    cost.correct(memory=replace(before, factor=2 * before.factor))
    try:
        assert fitting.recipe_of(genotype) != RECIPE
    finally:
        cost.correct(memory=before)


def test_a_forward_pass_is_predicted_near_what_it_takes(cost: CostModel, genotype: Genotype, data: Dataset) -> None:
    found = Fitting(cost=cost, recipe=RECIPE)(genotype)["inference"]
    assert found.low <= forward_peak(fresh(genotype, cost.interface, data, seed=0), data) <= found.high
