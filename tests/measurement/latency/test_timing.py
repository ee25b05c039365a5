"""Timing of ONNX files: every field means what it says.  Nothing here claims how fast anything is."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from medsearch.exporters.onnx import to_onnx_fast
from medsearch.measurement.latency.timing import Latency, paired_benchmark, steady, timed
from medsearch.targets.target import clock, make_target


@pytest.fixture(scope="module")
def onnx() -> bytes:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    return to_onnx_fast(network, (torch.zeros(1, 1, 32, 32),))


def plausible(found: Latency) -> bool:
    return 0 < found.quartile_low_ms <= found.median_ms <= found.quartile_high_ms and found.runs >= 10


def test_a_run_is_timed_in_milliseconds_after_three_of_warm_up() -> None:
    calls = []

    def run() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.02 if len(calls) > 3 else 0.2)

    found = timed(run, seconds=0.0, clock=time.perf_counter)
    assert (found.runs, len(calls)) == (10, 13)
    assert 20 <= found.quartile_low_ms and found.median_ms < 200


def test_quartiles_are_those_of_the_runs() -> None:
    # Eleven runs of 1, 2, ... 11 ms: the median is the sixth, the quartiles (exclusive) the third and the ninth.
    moments = iter([0.0, *(t for ms in range(1, 11) for t in (0.0, ms / 1e3)), 0.0, 0.0, 0.011, 9.0])
    found = timed(lambda: None, seconds=1.0, clock=lambda: next(moments))
    assert found == Latency(median_ms=6.0, quartile_low_ms=3.0, quartile_high_ms=9.0, runs=11)


def test_waiting_is_not_charged_to_one_thread() -> None:
    found = timed(lambda: time.sleep(0.01), seconds=0.0, clock=clock(1))
    assert found.median_ms < 5 <= timed(lambda: time.sleep(0.01), seconds=0.0, clock=clock(2)).median_ms


def test_a_file_is_as_fast_as_itself(onnx: bytes) -> None:
    times, one, other = paired_benchmark(onnx, onnx, seconds=0.3)
    assert 0.5 < times < 2
    assert plausible(one) and plausible(other) and one.runs == other.runs


def test_the_ratio_is_above_one_where_the_other_is_faster(onnx: bytes) -> None:
    slow = nn.Sequential(nn.Conv2d(1, 64, 7), nn.Conv2d(64, 64, 7))
    heavy = to_onnx_fast(slow, (torch.zeros(1, 1, 32, 32),))
    # 650 and 204 thousand multiply-adds per position: far enough apart for any machine.
    faster, slower, quicker = paired_benchmark(heavy, onnx, seconds=0.1)
    assert faster > 2 and slower.median_ms > quicker.median_ms


def test_a_long_run_is_timed_once_and_a_short_one_at_least_three_times() -> None:
    """By a clock that only runs advance: the model's take 7, the reference workload's 2."""
    passed, runs = [0.0], []

    def run(seconds: float) -> None:
        passed[0] += seconds
        runs.append(seconds)

    for seconds, pairs in ((8.9, 2), (9.1, 6), (60.0, 10)):
        runs.clear()
        found = steady(lambda: run(7.0), lambda: run(2.0), now=lambda: passed[0], seconds=seconds)
        assert found == (pytest.approx(3.5), pytest.approx(2000.0))
        assert runs == [7.0, 2.0] * pairs  # 1 + 1; 3 + 3; 3 + 7 until 60 have passed


def test_a_file_takes_as_long_as_itself_and_a_heavier_one_longer(onnx: bytes) -> None:
    run = make_target("onnxruntime-cpu").runner
    ratio, pace = steady(run(onnx), run(onnx), now=clock(1), seconds=0.1)
    assert 0.5 < ratio < 2 and pace > 0
    heavy = to_onnx_fast(nn.Sequential(nn.Conv2d(1, 64, 7), nn.Conv2d(64, 64, 7)), (torch.zeros(1, 1, 32, 32),))
    assert steady(run(heavy), run(onnx), now=clock(1), seconds=0.1)[0] > 2
