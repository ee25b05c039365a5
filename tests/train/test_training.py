"""Training: it learns, it repeats, it averages and decays what it says, and it stops when it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsearch.backbones import ResidualBlock
from medsearch.data import Split
from medsearch.spaces import Genotype
from medsearch.train import Epoch, Training, TrainingError, evaluate, fresh, train
from medsearch.train.augment import Augment
from medsearch.train.loop import Stepper, one_cycle, predict

Make = Callable[..., Any]

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def network(work: Training, genotype: Genotype, *, seed: int = 0) -> nn.Module:
    return fresh(genotype, work.interface, work.data, seed=seed).cpu()


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


@pytest.mark.parametrize(
    ("task", "dims", "epochs", "enough"),
    [
        ("classification", 2, 6, {"auc": 0.99, "accuracy": 0.9}),
        ("classification", 3, 6, {"auc": 0.99, "accuracy": 0.9}),
        ("segmentation", 2, 8, {"dice": 0.85}),
        ("segmentation", 3, 6, {"dice": 0.85}),
        ("denoising", 2, 8, {"psnr": 16.0}),
    ],
)
def test_learns_a_toy_problem(
    training: Make, genotype: Make, task: str, dims: int, epochs: int, enough: dict[str, float]
) -> None:
    """The noise of the toy is 20 in a range of 80, that is 12 dB, which denoising has to beat clearly."""
    work = training(task, dims, epochs=epochs)
    model = network(work, genotype(task, dims))
    before = work.task.error(evaluate(model, work.data.val, work.task))
    averaged, record = train(model, work.data, work.task, work.recipe)
    assert record[-1].loss < 0.8 * record[0].loss
    assert work.task.error(record[-1].metrics) < before
    assert {name: record[-1].metrics[name] for name, least in enough.items() if record[-1].metrics[name] < least} == {}
    assert evaluate(averaged, work.data.val, work.task) == record[-1].metrics
    assert not averaged.training


def test_the_same_seed_gives_the_same_bits_and_another_does_not(training: Make, genotype: Make) -> None:
    def trained(seed: int) -> dict[str, Tensor]:
        torch.rand(seed + 1)  # the global state is of no concern
        found = training(seed=seed, augment=Augment())(genotype("classification", 2))
        assert found.model is not None
        return weights(found.model)

    first = trained(3)
    assert same(first, trained(3))
    assert not same(first, trained(4))


def test_the_average_follows_the_weights_as_written_out(training: Make, genotype: Make) -> None:
    """a0 = w0; decay d = min(0.99, n / (n + 10)) after step n: a1 = a0 / 11 + 10 w1 / 11, a2 = (a1 + 5 w2) / 6."""
    work = training()
    model = network(work, genotype("classification", 2))
    start = weights(model)
    stepper = Stepper(model, 2, work.task, work.recipe)
    seen = []
    for _ in range(2):
        stepper(work.data.train.images[:12], work.data.train.targets[:12], 0.01, torch.Generator())
        seen.append(weights(model))
    found = stepper.averaged.state_dict()
    for name, tensor in start.items():
        if tensor.is_floating_point():
            first = tensor.double() / 11 + 10 * seen[0][name].double() / 11
            assert torch.allclose(found[name].double(), (first + 5 * seen[1][name].double()) / 6, atol=1e-6), name
    assert not same(found, seen[1])


def test_the_rate_rises_for_a_while_and_falls_to_zero() -> None:
    """Warm-up 0.2: half way up at 0.1; half way down where the cosine is 0, in the middle of 0.2 to 1."""
    assert one_cycle(0, 0.2) == 0.04
    assert one_cycle(0.1, 0.2) == pytest.approx(0.5)
    assert one_cycle(0.2, 0.2) == 1
    assert one_cycle(0.6, 0.2) == pytest.approx(0.5)
    assert one_cycle(1, 0.2) == pytest.approx(0)
    assert one_cycle(0, 0.0) == 1
    falling = [one_cycle(step / 100, 0.2) for step in range(20, 101)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(("task", "dims"), [("classification", 2), ("segmentation", 3)])
def test_norms_biases_and_scales_do_not_decay(training: Make, genotype: Make, task: str, dims: int) -> None:
    work = training(task, dims)
    model = network(work, genotype(task, dims))
    spared = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, NORMS) or name == "bias" or isinstance(module, ResidualBlock)
    }
    decay = {
        id(parameter): group["weight_decay"]
        for group in Stepper(model, dims, work.task, work.recipe).optimizer.param_groups
        for parameter in group["params"]
    }
    filters = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)}
    assert set(decay) == {id(parameter) for parameter in model.parameters()}
    assert {decay[key] for key in spared} == {0.0}
    assert {decay[key] for key in filters} == {work.recipe.weight_decay}


def test_an_evaluation_leaves_the_mode_alone(training: Make, genotype: Make) -> None:
    work = training()
    model = network(work, genotype("classification", 2))
    start = weights(model)
    found = []
    for mode in (True, False):
        model.train(mode)
        found.append(evaluate(model, work.data.val, work.task, batch=5))
        assert model.training is mode
    assert found[0] == found[1]
    assert same(weights(model), start)


def test_predicts_alike_whatever_the_batch(training: Make, genotype: Make) -> None:
    work = training("segmentation", 3)
    model = network(work, genotype("segmentation", 3))
    outputs = [predict(model, work.data.val.images, batch=batch) for batch in (16, 7)]
    assert outputs[0].shape == (16, 2, 8, 8, 8)
    assert torch.allclose(*outputs, atol=1e-5)


def test_filters_of_volumes_lie_channels_last(training: Make, genotype: Make) -> None:
    work = training("classification", 3)
    model = network(work, genotype("classification", 3))
    Stepper(model, 3, work.task, work.recipe)
    filters = [module.weight for module in model.modules() if isinstance(module, nn.Conv3d)]
    assert filters
    assert all(weight.is_contiguous(memory_format=torch.channels_last_3d) for weight in filters)


def test_an_evaluation_has_the_error_of_its_metrics_and_what_it_took(training: Make, genotype: Make) -> None:
    found = training(epochs=4)(genotype("classification", 2))
    assert found.error == pytest.approx(1 - found.metrics["auc"])
    assert (found.epochs, found.seconds > 0) == (4.0, True)


def test_evaluates_as_often_as_asked_and_at_the_end(training: Make, genotype: Make) -> None:
    work = training(epochs=5)
    seen: list[Epoch] = []
    model = network(work, genotype("classification", 2))
    _, record = train(
        model, work.data, work.task, work.recipe, evaluate_every=2, watch=lambda epoch: seen.append(epoch) or True
    )
    assert [epoch.number for epoch in record] == [2, 4, 5]
    assert seen == record


def test_every_image_is_learned_from_once_an_epoch(training: Make, genotype: Make) -> None:
    """36 images in batches of at most 7: six steps of 6, none of a single image, which has no batch statistics."""
    work = training(epochs=1, batch=7)
    seen: list[np.ndarray] = []

    class Noting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, images: Tensor) -> Tensor:
            if self.training:
                seen.append(images.numpy().copy())
            return images.flatten(1)[:, :2] * self.weight

    train(Noting(), work.data, work.task, work.recipe)
    assert [len(batch) for batch in seen] == [6] * 6
    order = np.concatenate(seen)
    assert not np.array_equal(order, work.data.train.images)
    assert sorted(order[:, 0, 0, 0]) == sorted(work.data.train.images[:, 0, 0, 0])


def test_a_last_image_alone_does_not_end_the_training(training: Make, genotype: Make) -> None:
    """35 + 1 images: with one image and one pixel left, batch norm would have nothing to take a mean over."""
    work = training(batch=35, epochs=1)
    architecture = genotype("classification", 2)
    deep = replace(architecture, stages=(*architecture.stages, *(architecture.stages[1],) * 3))
    assert work(deep).epochs == 1


@pytest.mark.parametrize("lr", [1e8, 1e38])
def test_training_that_blows_up_says_so(training: Make, genotype: Make, lr: float) -> None:
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        training(lr=lr, warmup=0.0, epochs=8)(genotype("classification", 2))


def test_outputs_that_are_not_numbers_are_not_scored(training: Make, genotype: Make) -> None:
    work = training()
    images = work.data.val.images.copy()
    images[3, 0, 0, 0] = np.inf
    model = network(work, genotype("classification", 2))
    with pytest.raises(TrainingError, match="not finite"):
        evaluate(model, Split(images=images, targets=work.data.val.targets), work.task)


def test_fresh_networks_know_the_intensities_and_leave_the_random_state(training: Make, genotype: Make) -> None:
    work = training()
    state = torch.random.get_rng_state()
    model = network(work, genotype("classification", 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    standard = model.standardize(torch.from_numpy(work.data.train.images))
    assert float(standard.mean()) == pytest.approx(0, abs=1e-4)
    assert float(standard.std()) == pytest.approx(1, abs=1e-3)
    assert same(weights(model), weights(network(work, genotype("classification", 2))))
    assert not same(weights(model), weights(network(work, genotype("classification", 2), seed=1)))


def test_half_precision_trains_full_precision_weights(training: Make, genotype: Make) -> None:
    found = training(precision="bf16", epochs=4)(genotype("classification", 2))
    assert found.model is not None
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.float32}
    assert found.metrics["auc"] > 0.9


def test_a_student_comes_closer_to_its_teacher(training: Make, genotype: Make) -> None:
    work = training(epochs=6)
    teacher = work(genotype("classification", 2)).model
    student = network(work, genotype("classification", 2), seed=5)
    wanted = predict(teacher, work.data.val.images)
    before = work.task.match(predict(student, work.data.val.images), wanted)
    averaged, _ = train(student, work.data, work.task, work.recipe, teacher=teacher)
    assert work.task.match(predict(averaged, work.data.val.images), wanted) < 0.5 * before
