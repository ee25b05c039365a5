"""A step in pieces, and blocks that are run again: the same training in less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medsearch.backbones import Interface, Network, build
from medsearch.spaces import Block, Genotype, Part, Stage
from medsearch.tasks import make_task
from medsearch.train import TrainingRecipe
from medsearch.train.loop import Stepper

INTERFACE = Interface(task="classification", channels=1, outputs=3)
RECIPE = TrainingRecipe(epochs=1, batch=6)


def network(dims: int = 2) -> Network:
    conv = Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2))
    joint = Block(conv.mixer, conv.channel, "joint", 0.5, position=conv.mixer)
    scaled = Block(conv.mixer, conv.channel, "each", 0.5, local=conv.mixer)
    stages = (Stage(8, (conv, joint)), Stage(12, (scaled,), Part.of("conv3s2")))
    torch.manual_seed(0)
    return build(Genotype(dims, Part.of("conv", stride=2), stages, Part.of("classify")), INTERFACE)


def images(count: int = 6) -> tuple[Tensor, Tensor]:
    return torch.rand(count, 1, 16, 12, generator=torch.Generator().manual_seed(1)), torch.arange(count) % 3


def state_after(recipe: TrainingRecipe, *, steps: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    stepper = Stepper(network(), 2, make_task("classification", outputs=3, dims=2), recipe)
    losses = [stepper.learn(*images()) for _ in range(steps)]
    return list(stepper.model.state_dict().values()), losses


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_that_are_run_again_learn_the_same_bit_for_bit_statistics_included(precision: str) -> None:
    plain, losses = state_after(replace(RECIPE, precision=precision))
    again, losses_again = state_after(replace(RECIPE, precision=precision, checkpointing=True))
    assert losses == losses_again
    assert len(plain) == len(again) and all(map(torch.equal, plain, again))


def test_a_batch_in_pieces_has_the_gradient_of_the_whole() -> None:
    # Without batch statistics, cross-entropy is a mean over images: the pieces of 6 images in 4 are 2, 2, 1 and 1.
    def gradients(accumulate: int) -> tuple[list[Tensor], Tensor]:
        model = network().double()
        stepper = Stepper(
            model, 2, make_task("classification", outputs=3, dims=2), replace(RECIPE, accumulate=accumulate)
        )
        model.eval()
        loss = stepper._gradients(images()[0].double(), images()[1])
        return [p.grad for p in model.parameters() if p.grad is not None], loss

    whole, loss = gradients(1)
    parts, loss_of_parts = gradients(4)
    assert torch.allclose(loss, loss_of_parts, rtol=1e-6)
    # The network's output is rounded to 32 bits on its way to the loss.
    assert len(whole) == len(parts) > 10
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(whole, parts, strict=True))


def test_a_batch_smaller_than_its_pieces_goes_image_by_image() -> None:
    stepper = Stepper(network(), 2, make_task("classification", outputs=3, dims=2), replace(RECIPE, accumulate=8))
    assert torch.isfinite(stepper.learn(*images(2)))
