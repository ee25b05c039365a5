"""Bytes of a training step: worked out by hand for single layers, and beside the allocator for whole networks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsearch.backbones import Interface, build
from medsearch.blocks.nd import to_first, to_last
from medsearch.core.children import ChildDied
from medsearch.core.config import parse_yaml
from medsearch.data import Dataset, Split
from medsearch.measurement.device import Profile
from medsearch.measurement.memory.inference import forward_peak
from medsearch.measurement.memory.operators import Operator
from medsearch.measurement.memory.peak import Chain, find_peak, inference_peak, measured_peak, training_peak
from medsearch.measurement.memory.step import CUDA, StepMemory
from medsearch.measurement.memory.trace import Footprint, StorageWatch, fake, footprint, run_part, scaled
from medsearch.measurement.memory.workspace import Workspaces, allocated_peak, run_operator
from medsearch.measurement.model import Conditions, CostModel
from medsearch.spaces import Block, Genotype, Part, Space, Stage, read_space
from medsearch.tasks import make_task
from medsearch.train import TrainingRecipe
from medsearch.train.step_cost import learning_memory, step_memory, traced_memory

SPACE = """\
name: small
dims: 2
stem: {name: conv, stride: {choice: [1, 2]}}
heads:
  classification: classify
  segmentation: &pyramid {name: pyramid, dim: 8, detail: 8}
  denoising: *pyramid
stages:
  - dim: {choice: [8, 16]}
    mixer: &mixers
      choice:
        - {name: dwconv, kernel: {choice: [3, 5]}}
        - {name: linear_attention, head_dim: 8}
        - {name: window_attention, window: 4, head_dim: 8}
        - {name: pooled_attention, pool: 2, differential: true, head_dim: 8}
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
# The backward pass needs, all at once: the gradient of the output, 4096, the input's 1536, the weights' 128 = 5760;
# what a layer itself has saved (held, or its output) comes on top.  The output is gone where nobody has saved it.
BY_HAND: list[tuple[str, Callable[[], nn.Module], str, Footprint]] = [
    (
        "linear: saves its input",
        lambda: Positions(3, 8),
        "fp32",
        Footprint(
            weights=128,
            buffers=0,
            counters=8,
            held=0,
            output=4096,
            keeps=(True,),
            gradients=(1536,),
            forward=4096,
            backward=5760,
            infer=4096,
            shape=(8, 8, 8),
            order=(0, 2, 3, 1),
            gradient_orders=((0, 2, 3, 1),),
        ),
    ),
    (
        "convolution: saves its input",
        lambda: nn.Conv2d(3, 8, 1),
        "fp32",
        Footprint(
            weights=128,
            buffers=0,
            counters=8,
            held=0,
            output=4096,
            keeps=(True,),
            gradients=(1536,),
            forward=4096,
            backward=5760,
            infer=4096,
            shape=(8, 8, 8),
            order=(0, 2, 3, 1),
            gradient_orders=((0, 2, 3, 1),),
        ),
    ),
    (
        # The output of the convolution is gone after the forward pass; that of the ReLU is saved.  The backward pass
        # has at its largest moment: ReLU output, its gradient and the convolution's, 3 * 4096 = 12,288; later the
        # convolution's gradient, the input's and the weights', 4096 + 1536 + 128, are less.
        "convolution and ReLU: saves input and result",
        conv_relu,
        "fp32",
        Footprint(
            weights=128,
            buffers=0,
            counters=8,
            held=0,
            output=4096,
            keeps_output=True,
            keeps=(True,),
            gradients=(1536,),
            forward=8192,
            backward=12288,
            infer=8192,
            shape=(8, 8, 8),
            order=(0, 2, 3, 1),
            gradient_orders=((0, 2, 3, 1),),
        ),
    ),
    (
        # Two hidden maps of 4096 are saved, one by GELU and one by the second convolution, whose weights are 96 + 12.
        # Backward, at the second convolution: both, the output's gradient 1536, the hidden gradient 4096, 96 + 12.
        # Then one hidden map is let go, and GELU's gradient takes its place.  Without gradients: two maps at once.
        "two layers: let go of what they have used",
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 3, 1)),
        "fp32",
        Footprint(
            weights=236,
            buffers=0,
            counters=16,
            held=8192,
            output=1536,
            keeps=(True,),
            gradients=(1536,),
            forward=9728,
            backward=13932,
            infer=8192,
            shape=(3, 8, 8),
            order=(0, 2, 3, 1),
            gradient_orders=((0, 2, 3, 1),),
        ),
    ),
    (
        # In 16 bits: the input as 768 bytes, the weights as 48, the bias as 16, the output as 2048.  Copies of input
        # and weights are saved in place of the input; that of the bias stays until the forward pass is over.
        # Backward: the output's gradient 2048, the copies 768 + 48, the gradients in 16 bits, 768 + 48 + 16 = 3696;
        # with the copies and the output's gradient gone, the input's in 32 bits besides is less.
        "convolution in bf16: saves copies",
        lambda: nn.Conv2d(3, 8, 1),
        "bf16",
        Footprint(
            weights=128,
            buffers=0,
            counters=8,
            held=768 + 48,
            cached=16,
            output=2048,
            gradients=(1536,),
            forward=768 + 48 + 16 + 2048,
            backward=2048 + 768 + 48 + 768 + 48 + 16,
            infer=768 + 48 + 16 + 2048,
            shape=(8, 8, 8),
            order=(0, 2, 3, 1),
            gradient_orders=((0, 2, 3, 1),),
            dtype=torch.bfloat16,
        ),
    ),
    (
        # The input is saved, and mean and inverse deviation of 3 channels: 24 bytes.  Gain and shift are 24; running
        # mean and variance 24, the counter 8.  Backward: the two gradients, 2 * 1536, + 24 + 24.
        "batch norm: saves input and statistics",
        lambda: nn.BatchNorm2d(3),
        "fp32",
        Footprint(
            weights=24,
            buffers=32,
            counters=8,
            held=24,
            output=1536,
            keeps=(True,),
            gradients=(1536,),
            forward=1560,
            backward=3120,
            infer=1560,
            shape=(3, 8, 8),
            order=(0, 2, 3, 1),
            gradient_orders=((0, 2, 3, 1),),
        ),
    ),
]


@pytest.mark.parametrize(("make", "precision", "wanted"), [case[1:] for case in BY_HAND], ids=[c[0] for c in BY_HAND])
def test_the_footprint_of_a_layer_is_what_a_hand_count_gives(
    make: Callable[[], nn.Module], precision: str, wanted: Footprint
) -> None:
    assert footprint(make, [(2, 3, 8, 8)], precision=precision) == wanted


def test_the_next_part_is_given_what_the_last_one_made() -> None:
    # A GELU on 16 bits: half of everything, 2 * 3 * 64 * 2 = 768; backward: the gradients of output and input.
    given = footprint(nn.GELU, [(2, 3, 8, 8)], precision="bf16", dtypes=[torch.bfloat16])
    assert (given.output, given.forward, given.backward, given.dtype) == (768, 768, 2 * 768, torch.bfloat16)
    assert footprint(nn.GELU, [(2, 3, 8, 8)], precision="bf16").output == 1536


def test_an_image_wants_no_gradient() -> None:
    stem = footprint(lambda: nn.Conv2d(3, 8, 1), [(2, 3, 8, 8)], precision="fp32", trained=[False])
    assert (stem.gradients, stem.backward) == ((0,), 4096 + 128)
    nothing = footprint(nn.GELU, [(2, 3, 8, 8)], precision="fp32", trained=[False])
    assert (nothing.held, nothing.backward) == (0, 1536)


def test_an_allocator_that_rounds_rounds_every_storage() -> None:
    # Weights 96 and 32 bytes: 512 each; two counters; maps are multiples of 512 already.
    rounded = footprint(lambda: nn.Conv2d(3, 8, 1), [(2, 3, 8, 8)], precision="fp32", round_to=512)
    assert (rounded.weights, rounded.counters, rounded.output, rounded.backward) == (1024, 1024, 4096, 5632 + 1024)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_batches_tell_every_other(precision: str) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.GELU(), nn.Conv2d(64, 5, 1))

    found = scaled(make, [(3, 8, 8)], precision=precision)
    for batch in (2, 3, 5, 16, 64, 100):
        assert found.at(batch) == footprint(make, [(batch, 3, 8, 8)], precision=precision), batch


def test_which_moment_is_the_largest_may_change_with_the_batch() -> None:
    # Weights 16,384 * 4: their gradient outweighs one image's maps of 4 * 64 * 4 bytes; many images outweigh it.
    def make() -> nn.Module:
        return nn.Sequential(nn.GELU(), nn.Conv2d(128, 128, 1), nn.GELU())

    found = scaled(make, [(128, 8, 8)], precision="fp32")
    for batch in (2, 3, 4, 12, 40):
        assert found.at(batch) == footprint(make, [(batch, 128, 8, 8)], precision="fp32"), batch
    assert len(found.lines[1]) > 1


def test_a_network_with_such_an_operator_says_so() -> None:
    def die(operator: Operator) -> int:
        if "bfloat16" in str(operator) and operator.name == "aten::mm.default":
            raise ChildDied("probing an operator", "SIGFPE")
        return run_operator(operator)

    interface = Interface(task="classification", channels=1, outputs=3)
    steps = StepMemory(interface, SIZE[2], batches=(2, 3), workspaces=Workspaces(measure=die))
    genotype = space(2, "classification").first()
    assert steps.chain(genotype, batch=2, precision="fp32").deadly == frozenset()
    assert not steps.deadly
    deadly = steps.chain(genotype, batch=2, precision="bf16").deadly
    assert deadly and all("::mm" in name and "bfloat16" in name for name in deadly)
    assert steps.deadly


def part(**bytes_: int | bool | tuple[bool, ...] | tuple[int, ...]) -> Footprint:
    zero = dict.fromkeys(("weights", "buffers", "held", "output", "forward", "backward", "infer"), 0)
    return Footprint(**{**zero, **bytes_})  # type: ignore[arg-type]


def chain(*parts: Footprint, reads: tuple[int, ...] = (), head: int | None = None) -> Chain:
    head = len(parts) - 1 if head is None else head
    return Chain(parts=parts, stem=0, head=head, reads=reads or (head - 1,), batch_bytes=20)


def test_the_peak_of_a_step_is_the_largest_of_its_moments() -> None:
    # Resident: 4 copies of 150 weights, 2 of 8 buffers, the batch 20 = 636.
    stem = part(weights=100, buffers=8, held=20, output=30, forward=60, backward=70)
    head = part(weights=50, held=5, output=7, forward=15, backward=40)
    # The optimizer's moment: resident and all gradients, 636 + 150.  Forward in the stem 636 + 60, in the head
    # 636 + 20 + 30 + 15; backward in the head 636 + 20 + 40, in the stem 636 + 70 + the head's 50.
    assert training_peak(chain(stem, head)) == 786
    # With more to do in the forward pass of the head: 636 + 20 held + 30 input + 200.
    assert training_peak(chain(stem, part(weights=50, forward=200))) == 886
    # The same where the input is kept for the backward pass: it is counted once.
    assert training_peak(chain(stem, part(weights=50, forward=200, keeps=(True,)))) == 886
    # Backward in the head: 636 + 20 held + 300, and 30 more where its input must be kept.
    assert training_peak(chain(stem, part(weights=50, backward=300))) == 956
    assert training_peak(chain(stem, part(weights=50, backward=300, keeps=(True,)))) == 986
    # Backward in the stem: 636 + 500 + the head's gradients 50.
    assert training_peak(chain(part(weights=100, buffers=8, backward=500), head)) == 1186
    # Gradients of an earlier piece of the batch, 150, are there all the time: 636 + 150 + 20 + 300.
    assert training_peak(chain(stem, part(weights=50, backward=300)), accumulate=True) == 1106


def test_features_live_until_the_head_and_their_gradients_until_they_are_used() -> None:
    # Three parts and a head that reads the first and the third.
    one = part(output=10, backward=1)
    two = part(output=10, backward=1000)
    three = part(output=10, backward=1)
    head = part(forward=500, keeps=(True, False), gradients=(7, 7))
    found = chain(one, two, three, head, reads=(0, 2))
    # Forward in the head: 20 + both features 20 + 500.  Backward in the second: 20 + the first's gradient 7 + 1000.
    assert find_peak(found).bytes == 1027 and find_peak(found).moment == "backward" and find_peak(found).part == 1
    assert training_peak(chain(one, part(output=10), three, head, reads=(0, 2))) == 540
    # A loss after the head: of the features only the first is still there, because the head saved it.
    loss = part(forward=600)
    assert (
        training_peak(
            chain(one, part(), three, part(keeps=(True, False), gradients=(7, 7), output=3), loss, reads=(0, 2), head=3)
        )
        == 20 + 10 + 3 + 600
    )


def test_a_part_that_is_run_again_keeps_its_input_alone() -> None:
    stem = part(output=10)
    block = part(output=10, held=100, forward=110, backward=150)
    head = part()
    # Backward in the second block: batch 20, held by the first 100, + 150; run again: the stem's output 10 and the
    # first block's 10 instead, + 150.  The second run ends before there is an output.
    assert training_peak(chain(stem, block, block, head)) == 270
    assert training_peak(chain(stem, block, block, head), checkpointing=True) == 20 + 20 + 150
    # A forward pass of 145 beside the gradient 10 that waits is more.
    block = replace(block, forward=145)
    assert training_peak(chain(stem, block, block, head), checkpointing=True) == 20 + 20 + 155
    # The random state, 7: kept by both blocks and by the second run; 2 * 4 for two blocks' statistics from step to
    # step, and the second block's once more.
    block, again = replace(block, buffers=2), chain(stem, replace(block, buffers=2), replace(block, buffers=2), head)
    assert training_peak(replace(again, random_bytes=7), checkpointing=True) == 20 + 8 + 20 + 155 + 3 * 7 + 2


def test_the_copy_of_the_images_is_there_in_the_forward_pass_alone() -> None:
    forward, backward = (chain(part(), part(**{moment: 50})) for moment in ("forward", "backward"))
    assert training_peak(replace(forward, copy_bytes=9)) == 20 + 9 + 50
    assert training_peak(replace(backward, copy_bytes=9)) == 20 + 50


def test_a_peak_says_what_holds_it() -> None:
    block = part(output=10, held=100, backward=150)
    found = find_peak(chain(part(output=10, held=3), block, block, part()))
    assert (found.bytes, found.resident, found.part) == (20 + 3 + 100 + 150, 20, 2)
    assert found.held == (3, 100, 0, 0)


def test_the_peak_of_inference_is_the_largest_of_its_moments() -> None:
    # Resident: 150 weights, 8 buffers, the batch 20 = 178.  Stem 178 + 60; head 178 + its input 30 + 40.
    stem = part(weights=100, buffers=8, output=30, infer=60)
    assert inference_peak(chain(stem, part(weights=50, infer=40))) == 248
    assert inference_peak(chain(stem, part(weights=50, infer=10))) == 238
    # A third part finds the stem's output alive if the head reads it: 178 + 30 + the second's output 9 + 40.
    middle, last = (
        part(weights=25, infer=1, output=9),
        part(weights=25, infer=40, keeps=(False, False), gradients=(0, 0)),
    )
    assert inference_peak(chain(stem, middle, last, reads=(0, 1))) == 257
    # Through its first stage the stem's output is alive whoever reads it: in the second block, 178 + 30 + 9 + 40.
    blocks = chain(stem, middle, part(weights=25, infer=40), part())
    assert inference_peak(replace(blocks, entered={2: (0,)})) == 257


def test_what_entered_a_block_lives_until_the_block_is_left() -> None:
    # Batch 20; the last of three parts behind the stem finds its input, 10, and what entered the block, 9: 39 + 40.
    parts = (part(), part(output=9), part(output=10), part(infer=40, forward=40), part())
    apart = chain(*parts)
    assert (inference_peak(apart), training_peak(apart)) == (70, 70)
    block = replace(apart, entered={2: (1,), 3: (1,)})
    assert (inference_peak(block), training_peak(block)) == (79, 79)
    # The output of a stage is there anyway, and so is what is kept for the backward pass.
    read = replace(block, reads=(1, 3))
    assert inference_peak(read) == inference_peak(replace(read, entered={})) == 79
    kept = chain(parts[0], part(output=9, keeps_output=True), *parts[2:])
    assert training_peak(replace(kept, entered={2: (1,), 3: (1,)})) == training_peak(kept) == 79


def test_a_forward_pass_takes_what_its_parts_add_up_to() -> None:
    # The largest moment is inside the last block, whose input is 12 % of what lives then.
    block = Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2))
    stages = (Stage(8, (block,)), Stage(8, (block, block), Part.of("none")))
    genotype = Genotype(2, Part.of("conv", stride=1), stages, Part.of("classify"))
    interface = Interface(task="classification", channels=1, outputs=3)
    steps = StepMemory(interface, SIZE[2], batches=(2, 3), workspaces=Workspaces())
    added = inference_peak(steps.chain(genotype, batch=1, precision="fp32"))
    measured = forward_peak(build(genotype, interface), images(2, "classification"))
    assert added == pytest.approx(measured, rel=0.01)


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


CASES = [
    (2, "classification", "fp32"),
    (2, "segmentation", "bf16"),
    (3, "denoising", "fp32"),
    (3, "segmentation", "bf16"),
]


@pytest.mark.parametrize(("dims", "task", "precision"), CASES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_sum_whole_trace_and_allocator_agree(dims: int, task: str, precision: str, checkpointing: bool) -> None:
    outputs = 1 if task == "denoising" else 3
    interface = Interface(task=task, channels=1, outputs=outputs)
    genotype = space(dims, task).sample(random.Random(f"{dims} {task}"))
    pictures = torch.rand(8, 1, *SIZE[dims])
    targets = pictures.clone() if task == "denoising" else torch.zeros(8, *SIZE[dims], dtype=torch.int64)
    targets = torch.zeros(8, dtype=torch.int64) if task == "classification" else targets
    judge, spaces = make_task(task, outputs=outputs, dims=dims), Workspaces()
    recipe = TrainingRecipe(epochs=1, batch=8, precision=precision, checkpointing=checkpointing)
    real = learning_memory(build(genotype, interface), pictures, targets, judge, recipe)
    # Traced at this very batch: what a library takes inside an operator need not grow evenly with the images.
    steps = StepMemory(interface, SIZE[dims], batches=(8, 12), loss=judge.loss, workspaces=spaces)
    added = training_peak(steps.chain(genotype, batch=8, precision=precision), checkpointing=checkpointing)
    # Where blocks are run again, sums do not know where in a block the second run ends.
    assert abs(added / real - 1) <= (0.02 if checkpointing else 0.005), genotype
    if not checkpointing:
        whole = traced_memory(lambda: build(genotype, interface), pictures, targets, judge, recipe, workspaces=spaces)
        assert abs(added / whole - 1) <= 0.005 and abs(whole / real - 1) <= 0.005, genotype


def test_blocks_run_again_and_batches_in_pieces_take_less(profile: Profile) -> None:
    steps = StepMemory(Interface(task="classification", channels=1, outputs=3), SIZE[2])
    genotype = space(2, "classification").first()
    whole, piece = (steps.chain(genotype, batch=batch, precision="fp32") for batch in (64, 16))
    assert training_peak(whole, checkpointing=True) < training_peak(whole)
    assert training_peak(piece) < training_peak(piece, accumulate=True) < training_peak(whole)


def test_a_network_larger_than_the_machine_is_traced_without_its_memory() -> None:
    # 32 images of 1024 x 1024 and 16 channels at half resolution: 0.5 GB for every map.
    steps = StepMemory(Interface(task="segmentation", channels=3, outputs=2), (1024, 1024), device=CUDA)
    genotype = space(2, "segmentation").first()
    asked = allocated_peak(lambda: steps.chain(genotype, batch=32, precision="bf16"), torch.device("cpu"))
    assert training_peak(steps.chain(genotype, batch=32, precision="bf16")) > 4e9 > 1000 * asked
    with fake(lambda: build(genotype, steps.interface)) as model:
        assert model(torch.empty(32, 3, 1024, 1024)).shape == (32, 2, 1024, 1024)


def test_the_predicted_peak_is_near_that_of_a_real_step_with_its_random_changes(profile: Profile) -> None:
    interface = Interface(task="segmentation", channels=1, outputs=3)
    task = make_task("segmentation", outputs=3, dims=2)
    conditions = Conditions(size=SIZE[2], batch=BATCH[2], precision="fp32")
    cost = CostModel(interface, conditions, profile, loss=task.loss)
    genotype = space(2, "segmentation").sample(random.Random(0))
    data, recipe = images(2, "segmentation"), TrainingRecipe(epochs=1, batch=BATCH[2])
    real = step_memory(build(genotype, interface), data, task, recipe)
    assert abs(cost(genotype)["memory"].value / real - 1) <= 0.005
