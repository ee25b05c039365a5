"""What races count: rounds of all that run, and the products among what a module does."""

import numpy as np
import torch
from torch import nn

from medsearch.exporters.onnx import to_onnx_fast
from medsearch.studies.microbenchmark import forward, microbenchmark, products_of, products_share, training


def test_a_run_that_does_the_work_three_times_takes_about_three_times_as_long():
    a = torch.randn(160, 160)

    def once():
        return a @ a

    found = microbenchmark([once, lambda: [once() for _ in range(3)]], threads=1, seconds=0.05)
    low, ratio, high = found.ratios[1]
    assert low <= ratio <= high
    assert 2 < ratio < 4.5
    assert found.ratios[0] == (1, 1, 1)
    assert len(found.times) == 2


def test_products_are_replayed_and_nothing_else():
    net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.GELU(), nn.Flatten(), nn.LayerNorm(96), nn.Linear(96, 5))
    x = torch.randn(2, 4, 6, 6)
    outputs = products_of(forward(net, x, bf16=False))()
    assert [tuple(output.shape) for output in outputs] == [(2, 6, 4, 4), (2, 5)]
    assert torch.allclose(outputs[1], net(x), atol=1e-6)


def test_products_under_mixed_precision_are_in_half_precision():
    outputs = products_of(forward(nn.Linear(8, 4), torch.randn(3, 8), bf16=True))()
    assert [output.dtype for output in outputs] == [torch.bfloat16]


def test_products_of_a_training_step_have_those_of_the_gradients():
    products = products_of(training(nn.Linear(8, 8), torch.randn(3, 8), bf16=False))
    assert sorted(tuple(output.shape) for output in products()) == [(3, 8), (3, 8), (8, 8)]


def test_a_module_without_products_has_none_to_replay():
    assert products_of(forward(nn.GELU(), torch.randn(3), bf16=False)) is None


def test_the_runtime_tells_the_share_of_products():
    x = torch.randn(1, 4, 16, 16)
    nets = (nn.Conv2d(4, 8, 3), nn.Softplus(), nn.Sequential(nn.Conv2d(4, 8, 3), nn.Softplus()))
    inputs = {"input_0": np.asarray(x)}
    conv, none, both = (products_share(to_onnx_fast(net, (x,)), inputs, threads=1, runs=3) for net in nets)
    assert none == 0 < conv <= 1
    assert 0 < both < 1
