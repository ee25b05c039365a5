"""From a trained network to an int8 file that is smaller, faster and as good - or to a refusal."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from medsearch.backbones import Interface, Network, build
from medsearch.compression.compress import compress
from medsearch.compression.config import CompressionConfig
from medsearch.compression.score import score
from medsearch.core.errors import RefusedError, UsageError
from medsearch.data import Dataset, Split
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.tasks import Metric, make_task
from medsearch.tasks.kinds.classification import Classification
from medsearch.train.augment import Augment
from medsearch.train.loop import TrainingRecipe, predict, train

INTERFACE = Interface(task="classification", channels=1, outputs=3)
RECIPE = TrainingRecipe(epochs=2, lr=2e-3, batch=16, augment=Augment(flip=False, turn=False))


def stripes(images: int, seed: int) -> Split:
    """Noisy stripes in one of three directions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images, dtype=np.int64) % 3
    y, x = np.mgrid[:16, :16]
    waves = np.stack([np.sin(0.9 * axis + rng.uniform(0, 6)) for axis in (y, x, (x + y) / 1.4)])
    pixels = 128 + 60 * waves[labels] + rng.normal(0, 10, (images, 16, 16))
    return Split(images=pixels.clip(0, 255).astype(np.uint8)[:, None], targets=labels)


def dataset() -> Dataset:
    return Dataset(
        name="stripes",
        source="stripes",
        task="classification",
        dims=2,
        channels=1,
        size=(16, 16),
        classes=("a", "b", "c"),
        train=stripes(96, 0),
        val=stripes(48, 1),
        test=stripes(12, 2),
    )


def network(dim: int, hidden: int) -> tuple[Genotype, Network]:
    conv = Block(Part.of("dwconv"), Part.of("mlp", hidden=hidden))
    attention = Block(Part.of("linear_attention"), Part.of("mlp", hidden=hidden))
    stages = (Stage(dim, (conv, conv)), Stage(dim, (attention,), Part.of("conv3s2")))
    genotype = Genotype(2, Part.of("conv", stride=2), stages, Part.of("classify"))
    return genotype, build(genotype, INTERFACE)


class Closeness(Classification):
    """Judged by how close outputs are to given ones: 1 is equal, 0 is as far off as zero."""

    METRICS = {"closeness": Metric(label="closeness")}

    def __init__(self, wanted: Tensor) -> None:
        super().__init__(outputs=3, dims=2)
        self.primary, self.wanted = "closeness", wanted

    def metrics(self, output_BK: Tensor, target_B: Tensor) -> dict[str, float]:
        return {"closeness": 1 - float((output_BK - self.wanted).norm() / self.wanted.norm())}


def test_a_trained_network_becomes_smaller_faster_and_stays_as_good() -> None:
    data, task = dataset(), make_task("classification", outputs=3, dims=2)
    genotype, model = network(48, 256)
    trained, _ = train(model, data, task, TrainingRecipe(epochs=8, lr=4e-3, batch=16, augment=RECIPE.augment))
    state = copy.deepcopy(trained.state_dict())
    lines: list[str] = []
    config = CompressionConfig(keep_macs=0.5, max_drop=3.0, recipe=RECIPE, seconds=0.1)
    found = compress(trained, genotype, INTERFACE, data, task, config, say=lines.append)
    assert found.size <= 0.35
    assert found.ratio >= 1
    assert found.before.metrics["accuracy"] - found.after.metrics["accuracy"] <= 0.03
    assert found.before.metrics["accuracy"] > 0.8, "a network that has learned nothing shows nothing"
    assert found.after.metrics == score(found.after.onnx, data.val, task)
    assert sum(p.numel() for p in found.model.parameters()) < sum(p.numel() for p in trained.parameters())
    build(found.genotype, INTERFACE).load_state_dict(found.model.state_dict())
    assert all(torch.equal(trained.state_dict()[name], tensor) for name, tensor in state.items())
    assert [step.split(":")[0] for step in found.steps] == ["pruned", "block-pruned", "distilled", "quantized"]
    assert set(found.steps) <= {*lines, found.steps[-1]}
    pattern = (
        r"int8 is 0\.\d\dx the size and \d+\.\d\dx as fast as float \(paired, 1 thread\), accuracy \S+ -> \S+ on val.*"
    )
    assert re.fullmatch(pattern, found.summary())
    assert len(data.open_test()) == 12, "the test split must still be closed"


def test_what_pruning_would_cost_too_much_is_quantized_only() -> None:
    data = dataset()
    genotype, model = network(48, 256)
    task = Closeness(predict(model, data.val.images))
    config = CompressionConfig(keep_macs=0.3, max_drop=10, recipe=TrainingRecipe(epochs=1, lr=0.0), seconds=0.05)
    lines: list[str] = []
    found = compress(model, genotype, INTERFACE, data, task, config, say=lines.append)
    assert found.genotype == genotype
    assert len([line for line in lines if line.startswith("refused with")]) == 2
    assert found.after.metrics["closeness"] >= 0.9


def test_a_file_that_does_not_get_small_enough_is_refused_with_the_numbers() -> None:
    data, task = dataset(), make_task("classification", outputs=3, dims=2)
    genotype, model = network(8, 16)
    config = CompressionConfig(keep_macs=1.0, keep_blocks=1.0, max_drop=100, seconds=0.05)
    with pytest.raises(RefusedError, match=r"0\.\d\dx the size of the float file where 0\.35x is allowed"):
        compress(model, genotype, INTERFACE, data, task, config)


def test_settings_are_checked_and_say_what_is_tried() -> None:
    assert list(CompressionConfig(keep_macs=0.5, keep_blocks=1).shares()) == [(0.5, 1), (0.75, 1), (1, 1)]
    assert list(CompressionConfig(keep_macs=1, keep_blocks=0.5).shares()) == [(1, 0.5), (1, 1)]
    assert list(CompressionConfig(keep_macs=1, keep_blocks=1).shares()) == [(1, 1)]
    for wrong in (
        {"keep_macs": 0},
        {"keep_macs": 1.5},
        {"keep_blocks": -1},
        {"max_drop": -1},
        {"max_drop": float("nan")},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            CompressionConfig(**wrong)
