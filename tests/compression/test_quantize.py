"""The search for what to quantize: groups, ranges, and that neither a slower nor a worse form is taken."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from medsearch.backbones import Interface, build
from medsearch.compression.quantize import Quantized, groups, observe, quantize
from medsearch.compression.score import outputs
from medsearch.exporters.onnx import to_onnx
from medsearch.measurement.latency.timing import paired_benchmark
from medsearch.spaces import Block, Genotype, Part, Stage

SIZE = (16, 16)
IMAGES = np.random.default_rng(0).integers(0, 255, (16, 1, *SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def file() -> bytes:
    torch.manual_seed(0)
    conv = Block(Part.of("dwconv"), Part.of("mlp", hidden=128))
    attention = Block(Part.of("linear_attention"), Part.of("mlp", hidden=128))
    stages = (Stage(32, (conv,)), Stage(48, (attention,), Part.of("conv3s2")))
    genotype = Genotype(2, Part.of("conv", stride=2), stages, Part.of("classify"))
    return to_onnx(build(genotype, Interface(task="classification", channels=1, outputs=3)), SIZE, 1)


def nearness(file: bytes):
    """A judge: minus the distance of the outputs to those in float, as a share of them."""
    wanted = outputs(file, IMAGES)
    return lambda data: -float((outputs(data, IMAGES) - wanted).norm() / wanted.norm())


def run(file: bytes, judge, least: float) -> tuple[Quantized, list[str]]:
    lines: list[str] = []
    return quantize(file, IMAGES, judge, least=least, seconds=0.05, say=lines.append), lines


def test_groups_are_kinds_of_nodes_by_stage(file: bytes) -> None:
    model = onnx.load_model_from_string(file)
    found = groups(model, observe(file, IMAGES[:4]).work)
    assert set(found) == {
        "stem dense convolutions",
        "stage 1 depthwise convolutions",
        "stage 1 pointwise convolutions",
        "stage 2 dense convolutions",
        "stage 2 depthwise convolutions",
        "stage 2 matrix products",
        "head matrix products",
    }
    assert len(found["stage 2 matrix products"]) == 4 + 2, "queries, keys, values, the way out; the perceptron"
    assert list(found)[0] == "stage 1 pointwise convolutions", "the most work comes first"


def test_work_is_multiply_adds(file: bytes) -> None:
    """The stem: 3 x 3 on 1 channel to 32 at 8 x 8; the head: 48 -> 3."""
    work = observe(file, IMAGES[:4]).work
    found = groups(onnx.load_model_from_string(file), work)
    assert [work[name] for name in found["stem dense convolutions"]] == [9 * 32 * 64]
    assert [work[name] for name in found["head matrix products"]] == [48 * 3]


def test_ranges_are_those_of_the_images_and_clipped_ones_lie_inside(file: bytes) -> None:
    seen = observe(file, IMAGES, batch=5)
    conv = next(node for node in onnx.load_model_from_string(file).graph.node if node.op_type == "Conv")
    assert seen.whole[conv.input[0]] == pytest.approx((float(IMAGES.min()), float(IMAGES.max())))
    assert all(seen.whole[name][0] <= low <= high <= seen.whole[name][1] for name, (low, high) in seen.clipped.items())


def test_the_result_scores_enough_and_is_what_it_says(file: bytes) -> None:
    judge = nearness(file)
    found, lines = run(file, judge, least=-0.1)
    assert found.metric == judge(found.data) >= -0.1
    assert len(found.data) < 0.5 * len(file)
    everything = set(groups(onnx.load_model_from_string(file), observe(file, IMAGES[:4]).work))
    assert set(found.int8) | set(found.kept) == everything
    assert not set(found.int8) & set(found.kept)
    assert any(line.startswith("everything: ") for line in lines)


def test_a_judge_that_wants_float_gets_float_with_stored_weights(file: bytes) -> None:
    def judge(data: bytes) -> float:
        return -float(any(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(data).graph.node))

    found, _ = run(file, judge, least=0.0)
    assert found.int8 == ()
    assert found.metric == 0
    assert len(found.data) < 0.5 * len(file)
    assert all(" as fast in int8" in reason for reason in found.kept.values())


def test_the_stopwatch_knows_more_work_from_less() -> None:
    def layers(count: int) -> bytes:
        return to_onnx(torch.nn.Sequential(*(torch.nn.Conv2d(8, 8, 3) for _ in range(count))), (48, 48), 8)

    faster, slow, quick = paired_benchmark(layers(8), layers(2), ((1, 8, 48, 48),), seconds=0.1)
    assert 2 < faster < 8
    assert quick.median_ms < slow.median_ms
    assert slow.runs == quick.runs >= 10
