"""Costs before training: exact where they can be, corrected by whole networks where not."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medsearch.backbones import Interface, Network, build
from medsearch.core.config import parse_yaml
from medsearch.measurement.calibration import Accuracy, calibrate
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Correction, Estimate
from medsearch.measurement.latency.residual import ResidualModel
from medsearch.measurement.model import Conditions, CostModel, _lanes
from medsearch.spaces import Block, Genotype, Part, Space, Stage, read_space

SPACE = """\
name: small
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify, segmentation: {name: pyramid, dim: 8, detail: 8}}
stages:
  - dim: 8
    mixer: &mixers
      choice:
        - {name: dwconv, kernel: 3}
        - {name: linear_attention, head_dim: 8}
        - {name: window_attention, window: 4, head_dim: 8}
        - {name: pooled_attention, pool: 2, differential: true, head_dim: 8}
        - {name: region_topk_attention, regions: 3, top_regions: 4, head_dim: 8}
        - {name: block_gmlp, block: 4}
        - {name: grid_gmlp, grid: 4}
    channel: {choice: [{name: mlp, ratio: 2}, {name: conv_mlp, ratio: 2}]}
  - {dim: 16, depth: {range: [1, 3]}, mixer: *mixers, channel: {name: mlp, ratio: 2}}
"""
SIZE = {2: (20, 14), 3: (10, 8, 9)}
TASKS = {2: "segmentation", 3: "classification"}


def space(dims: int) -> Space:
    data = parse_yaml(SPACE.replace("dims: 2", f"dims: {dims}"), "small").value
    return read_space(data, "small", task=TASKS[dims])


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return Profile(threads=1, folder=tmp_path_factory.mktemp("profile"))


def model(dims: int, profile: Profile) -> CostModel:
    interface = Interface(task=TASKS[dims], channels=1, outputs=3)
    return CostModel(interface, Conditions(size=SIZE[dims], batch=2, precision="fp32"), profile)


def counted(network: Network, image_BCS: Tensor) -> tuple[int, int]:
    """Parameters and multiply-adds of a whole network, counted as it runs, attention as the two products it is."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.eval()(image_BCS)
    return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2


@pytest.mark.parametrize("dims", [2, 3])
def test_parameters_and_multiply_adds_are_those_of_the_built_network(dims: int, profile: Profile) -> None:
    cost, rng = model(dims, profile), random.Random(dims)
    for genotype in [space(dims).sample(rng) for _ in range(5)]:
        found = cost(genotype)
        image_BCS = torch.zeros(1, 1, *SIZE[dims])
        assert (found["parameters"].value, found["macs"].value) == counted(build(genotype, cost.interface), image_BCS)
        for exact in (found["parameters"], found["macs"]):
            assert (exact.low, exact.high, exact.how) == (exact.value, exact.value, "analytic")
        assert (found["macs"].unit, found["memory"].unit, found["latency"].unit) == ("MAC", "bytes", "ms")
        assert found["memory"].how == found["latency"].how == "predicted"
        assert 0 < found["latency"].value < 1e3 and found["memory"].value > 20 * found["parameters"].value


def test_multiply_adds_and_parameters_of_a_small_network_by_hand(profile: Profile) -> None:
    # Image 1 x 20 x 14, stem 1 -> 8 with 3 x 3 and stride 2 to 10 x 7: 8 * 9 * 70 = 5040, weights 72 + 16 (norm).
    # Depthwise 3 x 3: 8 * 9 * 70 = 5040, weights 72 + 16.  Perceptron 8 -> 16 -> 8: 256 * 70 = 17,920, weights 128 + 32
    # (norm in place of the first bias) + 128 + 8.  Head: norm 16, and 8 * 3 = 24 with 27 weights.
    stages = (Stage(8, (Block(Part.of("dwconv", kernel=3), Part.of("mlp", ratio=2)),)),)
    genotype = Genotype(2, Part.of("conv", stride=2), stages, Part.of("classify"))
    interface = Interface(task="classification", channels=1, outputs=3)
    cost = CostModel(interface, Conditions(size=SIZE[2], batch=2, precision="fp32"), profile)(genotype)
    assert cost["macs"].value == 5040 + 5040 + 17_920 + 24
    assert cost["parameters"].value == 88 + 88 + (128 + 32 + 128 + 8) + 16 + 27


def test_what_is_known_is_not_measured_again(profile: Profile) -> None:
    genotype = space(2).first()
    cost = model(2, profile)
    first = cost(genotype)
    assert cost(genotype) is first
    known = dict(profile.table.timings)
    again = model(2, profile)(genotype)
    assert profile.table.timings == known and again == first
    assert len(known) >= 1 + 2 + 1 + 1  # stem, two branches, downsampling, head


def test_a_deeper_network_takes_more_by_what_its_blocks_take(profile: Profile) -> None:
    cost = model(2, profile)
    one, two, three = (cost(space(2).with_option("stages.1.depth", depth)) for depth in (1, 2, 3))
    for name in ("parameters", "macs", "memory", "latency"):
        steps = [b[name].value - a[name].value for a, b in ((one, two), (two, three))]
        assert steps[0] > 0 and steps[0] == pytest.approx(steps[1], rel=0.01), name


def test_a_larger_batch_takes_more_memory_and_nothing_else(profile: Profile) -> None:
    genotype, small = space(2).first(), model(2, profile)
    large = CostModel(small.interface, Conditions(size=SIZE[2], batch=20, precision="fp32"), profile)
    assert large(genotype)["memory"].value > 4 * small(genotype)["memory"].value
    assert (large(genotype)["latency"], large(genotype)["macs"]) == (
        small(genotype)["latency"],
        small(genotype)["macs"],
    )


def test_an_estimate_without_doubt_is_a_point() -> None:
    exact = Estimate.exact(7.0, "MAC")
    assert exact.to_data() == {"value": 7.0, "low": 7.0, "high": 7.0, "unit": "MAC", "how": "analytic"}
    assert Estimate.exact(7.0, "ms", "measured").how == "measured"


def test_a_correction_is_the_median_ratio_with_room_for_the_worst() -> None:
    # Ratios 1.1, 1.2 and 1.5: median 1.2; the worst is 1.5 / 1.2 - 1 = 0.25 off, times 1.25 = 0.3125.
    fitted = Correction.fit([10.0, 20.0, 40.0], [11.0, 24.0, 60.0])
    assert (fitted.factor, fitted.spread) == (pytest.approx(1.2), pytest.approx(0.3125))
    estimate = fitted.apply(100.0, "ms")
    assert (estimate.value, estimate.low, estimate.high) == tuple(map(pytest.approx, (120.0, 82.5, 157.5)))
    assert (estimate.unit, estimate.how) == ("ms", "predicted")
    assert Correction.fit([10.0, 20.0], [5.0, 10.0], margin=3.0) == Correction(factor=0.5, spread=0.0)
    assert Correction(factor=1.0, spread=2.0).apply(10.0, "ms").low == 0.0
    assert Correction().apply(10.0, "ms") == Estimate(value=10.0, low=10.0, high=10.0, unit="ms", how="predicted")


def test_lanes_are_those_of_convolutions_with_a_window() -> None:
    convs = nn.Sequential(nn.Conv2d(1, 5, 1), nn.Conv2d(96, 32, 3), nn.Conv2d(32, 32, 3, groups=32))
    assert _lanes(convs) == 16  # 1 x 1 filters are matrix products
    assert _lanes(nn.Sequential(convs, nn.Conv2d(24, 24, 3, groups=24))) == 8
    assert _lanes(nn.Conv3d(32, 12, (1, 3, 3))) == 4
    assert _lanes(nn.Linear(3, 7)) == 16


def test_errors_are_summed_up_by_median_and_largest() -> None:
    # Errors of 10, 20, 25 and 0 percent; among four the 95th percentile is the last.
    found = Accuracy.of([110.0, 80.0, 125.0, 3.0], [100.0, 100.0, 100.0, 3.0])
    assert found.networks == 4
    assert (found.median_error_percent, found.largest_error_percent) == (pytest.approx(15.0), pytest.approx(25.0))
    # Of 41 errors 0, 1, ... 40 percent the 39th in order, 38, has 38 below it: 95 % of 40.
    many = Accuracy.of([100.0 + error for error in range(41)], [100.0] * 41)
    assert (many.p95_error_percent, many.median_error_percent) == (pytest.approx(38.0), pytest.approx(20.0))


def test_calibration_corrects_and_judges_every_network_by_the_others(profile: Profile) -> None:
    cost, three = model(2, profile), [space(2).with_option("stages.1.depth", depth) for depth in (1, 2, 3)]
    sums = [cost.sums(genotype) for genotype in three]
    before = cost(three[0])
    # Invented: memory 1.0, 1.2 and 1.5 times the sums, latency twice the sums.
    real = dict(zip(three, [(1.0, 2.0), (1.2, 2.0), (1.5, 2.0)], strict=True))

    measured = [
        {"memory": total.memory * real[genotype][0], "latency": total.latency * real[genotype][1]}
        for total, genotype in zip(sums, three, strict=True)
    ]

    found = calibrate(cost, three, measured)
    # Left out: 1.0 is predicted as the median of 1.2 and 1.5, 1.35: 35 % over.  1.2 as that of 1.0 and 1.5, 1.25:
    # 4.17 % over.  1.5 as that of 1.0 and 1.2, 1.1: 26.67 % under.
    assert found["memory"].networks == 3
    assert found["memory"].median_error_percent == pytest.approx(100 * (1 - 1.1 / 1.5))
    assert found["memory"].largest_error_percent == pytest.approx(35.0)
    assert found["latency"].largest_error_percent == pytest.approx(0.0, abs=1e-9)
    # With all three: factor 1.2, the worst 1.5 / 1.2 - 1 = 0.25 off, times 1.25 = 0.3125.
    after = cost(three[0])
    assert after["memory"].value == pytest.approx(1.2 * before["memory"].value)
    assert after["memory"].high == pytest.approx(1.2 * 1.3125 * before["memory"].value)
    assert after["latency"].high == after["latency"].value == pytest.approx(2 * before["latency"].value)
    assert (after["macs"], after["parameters"]) == (before["macs"], before["parameters"])


def test_one_network_alone_is_judged_by_itself(profile: Profile) -> None:
    cost, genotype = model(2, profile), space(2).first()
    memory, latency, _ = cost.sums(genotype)
    found = calibrate(cost, [genotype], [{"memory": 3 * memory, "latency": latency / 2}])
    assert found["memory"].largest_error_percent == pytest.approx(0.0, abs=1e-9)
    assert cost(genotype)["memory"].value == pytest.approx(3 * memory)
    assert cost(genotype)["latency"].value == pytest.approx(latency / 2)


def test_networks_are_a_test_of_what_a_profile_knows(profile: Profile) -> None:
    cost, genotype = model(2, profile), space(2).first()
    memory, latency, _ = cost.sums(genotype)
    known = ResidualModel(constant=math.log(2.0), spread=0.1)
    for real, high in ((2.1, 2 * math.exp(0.1)), (3.0, 3.0)):  # within the interval, and beyond it
        found = calibrate(cost, [genotype], [{"memory": memory, "latency": real * latency}], known=known)
        assert found["latency"].largest_error_percent == pytest.approx(100 * (1 - 2 / real))
        assert cost(genotype)["latency"].value == pytest.approx(2 * latency)
        assert cost(genotype)["latency"].high == pytest.approx(high * latency)
