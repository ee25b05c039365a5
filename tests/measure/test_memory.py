"""Bytes of a training step: worked out by hand for single layers, and beside the allocator for whole networks."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsearch.backbones import Interface, build
from medsearch.blocks.nd import to_first, to_last
from medsearch.core.config import parse_yaml
from medsearch.data import Dataset, Split
from medsearch.measure.cost import Conditions, CostModel
from medsearch.measure.device import Profile
from medsearch.measure.memory import (
    Footprint,
    StorageWatch,
    footprint,
    inference_peak,
    measured_peak,
    run_part,
    training_peak,
)
from medsearch.spaces import Space, read_space
from medsearch.train import Recipe, make_task
from medsearch.train.probe import step_memory

SPACE = """\
name: small
dims: 2
stem: {name: conv, stride: {choice: [1, 2]}}
heads: {classification: classify, segmentation: {name: pyramid, dim: 8, detail: 8}}
stages:
  - dim: {choice: [8, 16]}
    mixer: &mixers
      choice:
        - {name: dwconv, kernel: {choice: [3, 5]}}
        - {name: linear_attention, head_dim: 8}
        - {name: window_attention, window: 4, head_dim: 8}
        - {name: differential_attention, pool: 2, head_dim: 8}
        - {name: region_topk_attention, regions: 3, top_regions: 4, head_dim: 8}
        - {name: block_gmlp, block: 4}
        - {name: grid_gmlp, grid: 4}
    channel: &channels {choice: [{name: mlp, ratio: 3}, {name: conv_mlp, ratio: 2}]}
  - {dim: 16, mixer: *mixers, channel: *channels}
"""
SIZE = {2: (40, 32), 3: (16, 12, 14)}
BATCH = {2: 16, 3: 16}


def test_a_storage_counts_once_while_it_lives() -> None:
    given = torch.zeros(100)
    with StorageWatch() as watch:
        watch.ignore([given])
        one = given + 1  # 400 bytes
        view = one[:10]  # a view adds nothing
        given.add_(1)  # nor does writing in place, into what is not ours
        two = torch.cat([one, one])  # 800
        assert (watch.live, watch.peak) == (1200, 1200)
        del one
        assert watch.live == 1200  # the view keeps it
        del view
        assert (watch.live, watch.peak) == (800, 1200)
        watch.mark()
        three = two[:25] * 2  # 100
        del two, three
        assert (watch.live, watch.peak) == (0, 900)


class Positions(nn.Module):
    """A linear map of the channels, as the blocks have it."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, outputs)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return to_first(self.linear(to_last(x_BCS)))


def conv_relu() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())


# Input (2, 3, 8, 8): 2 * 3 * 64 * 4 = 1536 bytes, output (2, 8, 8, 8): 4096.  Weights 8 * 3 and bias 8: 96 + 32 = 128.
# The backward pass needs, all at once: output 4096 and its gradient 4096, the input's 1536, the weights' 128 = 9856;
# a layer that brings its own saved tensors (held) has them on top.
BY_HAND: list[tuple[str, Callable[[], nn.Module], str, Footprint]] = [
    (
        "linear: saves its input",
        lambda: Positions(3, 8),
        "fp32",
        Footprint(
            weights=128, buffers=0, held=0, output=4096, keeps_input=True, forward=4096, backward=9856, infer=4096
        ),
    ),
    (
        "convolution: saves its input",
        lambda: nn.Conv2d(3, 8, 1),
        "fp32",
        Footprint(
            weights=128, buffers=0, held=0, output=4096, keeps_input=True, forward=4096, backward=9856, infer=4096
        ),
    ),
    (
        # The output of the convolution is gone after the forward pass; that of the ReLU is saved, so it counts as held.
        # The backward pass has at its largest moment: ReLU output, its gradient, and the convolution's: 3 * 4096, or
        # ReLU output, its gradient, convolution's gradient, input's and weights' gradients: 3 * 4096 + 1536 + 128.
        "convolution and ReLU: saves input and result",
        conv_relu,
        "fp32",
        Footprint(
            weights=128, buffers=0, held=4096, output=0, keeps_input=True, forward=8192, backward=13952, infer=8192
        ),
    ),
    (
        # Two hidden maps of 4096 are saved, one by GELU and one by the second convolution, whose weights are 96 + 12.
        # Backward, at the second convolution: both, output and gradient 2 * 1536, the hidden gradient 4096, 96 + 12.
        # Then one hidden map is let go, and GELU's gradient takes its place.  Without gradients: two maps at once.
        "two layers: let go of what they have used",
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 3, 1)),
        "fp32",
        Footprint(
            weights=236, buffers=0, held=8192, output=1536, keeps_input=True, forward=9728, backward=15468, infer=8192
        ),
    ),
    (
        # In 16 bits: the input as 768 bytes, the weights as 48, the bias as 16, the output as 2048.  Copies of input
        # and weights are saved in place of the input.  Backward: output 2048, its gradient 2048, the three gradients
        # in 16 bits, 768 + 48 + 16, and then, with the copies gone, the input's in 32 bits, 1536.
        "convolution in bf16: saves copies",
        lambda: nn.Conv2d(3, 8, 1),
        "bf16",
        Footprint(
            weights=128,
            buffers=0,
            held=768 + 48,
            output=2048,
            keeps_input=False,
            forward=768 + 48 + 16 + 2048,
            backward=2 * 2048 + 768 + 48 + 16 + 1536,
            infer=768 + 48 + 16 + 2048,
            dtype=torch.bfloat16,
        ),
    ),
    (
        # The input is saved, and mean and inverse deviation of 3 channels: 24 bytes.  Gain and shift are 24; running
        # mean and variance 24, the counter 8.  Backward: output, its gradient and the input's, 3 * 1536, + 24 + 24.
        "batch norm: saves input and statistics",
        lambda: nn.BatchNorm2d(3),
        "fp32",
        Footprint(
            weights=24, buffers=32, held=24, output=1536, keeps_input=True, forward=1560, backward=4656, infer=1560
        ),
    ),
]


@pytest.mark.parametrize(("make", "precision", "wanted"), [case[1:] for case in BY_HAND], ids=[c[0] for c in BY_HAND])
def test_the_footprint_of_a_layer_is_what_a_hand_count_gives(
    make: Callable[[], nn.Module], precision: str, wanted: Footprint
) -> None:
    assert footprint(make, [(2, 3, 8, 8)], precision=precision) == wanted


def test_the_next_part_is_given_what_the_last_one_made() -> None:
    # A GELU on 16 bits: half of everything, 2 * 3 * 64 * 2 = 768; backward: output, its gradient and the input's.
    given = footprint(nn.GELU, [(2, 3, 8, 8)], precision="bf16", dtypes=[torch.bfloat16])
    assert (given.output, given.forward, given.backward, given.dtype) == (768, 768, 3 * 768, torch.bfloat16)
    assert footprint(nn.GELU, [(2, 3, 8, 8)], precision="bf16").output == 1536


def part(**bytes_: int | bool) -> Footprint:
    zero: dict[str, int | bool] = dict.fromkeys(Footprint.__dataclass_fields__, 0)
    return Footprint(**{**zero, "keeps_input": False, **bytes_})  # type: ignore[arg-type]


def test_the_peak_of_a_step_is_the_largest_of_its_moments() -> None:
    # Resident: 4 copies of 150 weights, 2 of 8 buffers, 2 batches of 10 = 636.
    stem = part(weights=100, buffers=8, held=20, output=30, forward=60, backward=70)
    head = part(weights=50, held=5, output=7, forward=15, backward=40)
    # The optimizer's moment: resident and all gradients, 636 + 150.  Forward in the stem 636 + 60, in the head
    # 636 + 20 + 30 + 15; backward in the head 636 + 20 + 40, in the stem 636 + 70 + the head's 50.
    assert training_peak([stem, head], batch_bytes=10) == 786
    # With more to do in the forward pass of the head: 636 + 20 held + 30 input + 200.
    assert training_peak([stem, part(weights=50, forward=200)], batch_bytes=10) == 886
    # The same where the input is kept for the backward pass: it is counted once.
    assert training_peak([stem, part(weights=50, forward=200, keeps_input=True)], batch_bytes=10) == 886
    # Backward in the head: 636 + 20 held + 300, and 30 more where its input must be kept, or is read once more later.
    busy = part(weights=50, backward=300)
    assert training_peak([stem, busy], batch_bytes=10) == 956
    assert training_peak([stem, part(weights=50, backward=300, keeps_input=True)], batch_bytes=10) == 986
    assert training_peak([stem, busy], batch_bytes=10, stage_ends=[0]) == 986
    # Backward in the stem: 636 + 500 + the head's gradients 50.
    assert training_peak([part(weights=100, buffers=8, backward=500), head], batch_bytes=10) == 1186


def test_the_peak_of_inference_is_the_largest_of_its_moments() -> None:
    # Resident: 150 weights, 8 buffers, 2 batches of 10 = 178.  Stem 178 + 60; head 178 + its input 30 + 40.
    stem = part(weights=100, buffers=8, output=30, infer=60)
    assert inference_peak([stem, part(weights=50, infer=40)], batch_bytes=10) == 248
    assert inference_peak([stem, part(weights=50, infer=10)], batch_bytes=10) == 238
    # A third part finds the stem's output alive if the head reads it: 178 + 30 + the second's output 9 + 40.
    middle, last = part(weights=25, infer=1, output=9), part(weights=25, infer=40)
    assert inference_peak([stem, middle, last], batch_bytes=10, stage_ends=[0]) == 257
    assert inference_peak([stem, middle, last], batch_bytes=10) == 238


def test_the_allocator_sees_what_a_step_takes_at_once() -> None:
    resident = torch.zeros(1000)  # 4000 bytes, counted once although it is given twice

    def step() -> None:
        one = torch.zeros(500)  # 2000
        two = torch.zeros(1500)  # 6000
        del one
        three = torch.zeros(250)  # 1000, when the first is gone
        del two, three

    assert measured_peak(step, [resident, resident[:10]], torch.device("cpu")) == 4000 + 8000


def test_a_head_is_run_on_stage_features_and_image() -> None:
    class Head(nn.Module):
        def forward(self, features: list[Tensor], image_BCS: Tensor) -> Tensor:
            assert isinstance(features, list)
            return torch.stack([*features, image_BCS])

    parts = [torch.full((1,), float(i)) for i in range(3)]
    assert torch.equal(run_part(Head(), parts), torch.stack(parts))
    assert torch.equal(run_part(nn.ReLU(), parts[1:2]), parts[1])


def space(dims: int, task: str) -> Space:
    return read_space(parse_yaml(SPACE.replace("dims: 2", f"dims: {dims}"), "small").value, "small", task=task)


def images(dims: int, task: str) -> Dataset:
    images_NCS = np.random.default_rng(0).random((BATCH[dims], 1, *SIZE[dims]), dtype=np.float32)
    labels_N = np.arange(BATCH[dims]) % 3
    masks_NS = np.minimum(images_NCS[:, 0] * 3, 2).astype(np.uint8)
    split = Split(images=images_NCS, targets=labels_N if task == "classification" else masks_NS)
    classes = ("a", "b", "c")
    about = {"name": "noise", "source": "noise", "task": task, "dims": dims, "channels": 1, "size": SIZE[dims]}
    return Dataset(**about, classes=classes, train=split, val=split, test=split)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return Profile(threads=1, folder=tmp_path_factory.mktemp("profile"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("dims", "task"), [(2, "classification"), (2, "segmentation"), (3, "classification")])
def test_the_predicted_peak_is_near_the_allocators(dims: int, task: str, precision: str, profile: Profile) -> None:
    interface = Interface(task=task, channels=1, outputs=3)
    cost = CostModel(interface, Conditions(size=SIZE[dims], batch=BATCH[dims], precision=precision), profile)
    data, recipe = images(dims, task), Recipe(epochs=1, batch=BATCH[dims], precision=precision)
    rng = random.Random(f"{dims} {task}")
    for genotype in [space(dims, task).sample(rng) for _ in range(2)]:
        real = step_memory(build(genotype, interface), data, make_task(task, outputs=3, dims=dims), recipe)
        assert 0.85 <= cost(genotype).memory.value / real <= 1.15, genotype
