"""Counting multiply-adds: as worked by hand, as torch's own counter where it knows the operators, on any device."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from medsearch.backbones import Interface, build
from medsearch.core.config import read_yaml
from medsearch.core.library import find
from medsearch.measurement.macs import count
from medsearch.spaces import read_space


def attention(*, keys: int = 7, heads: int = 4, width: int = 8, masked: bool = False) -> Tensor:
    """Scaled dot-product attention of 2 images, 4 heads and 5 queries of width 8."""
    mask = torch.rand(5, keys) if masked else None
    k, v = torch.rand(2, heads, keys, 8), torch.rand(2, heads, keys, width)
    return F.scaled_dot_product_attention(torch.rand(2, 4, 5, 8), k, v, attn_mask=mask, enable_gqa=heads != 4)


BY_HAND: dict[str, tuple[Callable[[], object], int]] = {
    "convolution": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1)(torch.rand(2, 4, 5, 7)), 2 * 6 * 3 * 4 * 4 * 9),
    "in groups": (lambda: nn.Conv3d(4, 6, (1, 3, 2), groups=2)(torch.rand(1, 4, 2, 5, 4)), 6 * 2 * 3 * 3 * 2 * 6),
    "depthwise": (lambda: nn.Conv2d(4, 4, 5, padding=2, groups=4)(torch.rand(1, 4, 9, 3)), 4 * 27 * 25),
    "dilated": (lambda: nn.Conv2d(1, 1, 3, padding=2, dilation=2)(torch.rand(1, 1, 6, 6)), 36 * 9),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)(torch.rand(2, 4, 5, 7)), 2 * 4 * 35 * 3 * 9),
    "linear": (lambda: nn.Linear(8, 3)(torch.rand(2, 5, 8)), 2 * 5 * 8 * 3),
    "linear of a vector": (lambda: nn.Linear(8, 3, bias=False)(torch.rand(8)), 8 * 3),
    "linear of a map": (lambda: nn.Linear(8, 3, bias=False)(torch.rand(2, 8, 5).transpose(1, 2)), 2 * 5 * 8 * 3),
    "matrix and vector": (lambda: torch.rand(5, 8) @ torch.rand(8), 40),
    "vectors": (lambda: torch.rand(8) @ torch.rand(8), 8),
    "batched": (lambda: torch.rand(2, 3, 5, 8) @ torch.rand(3, 8, 4), 2 * 3 * 5 * 8 * 4),
    "added": (lambda: torch.addmm(torch.rand(5, 1), torch.rand(5, 8), torch.rand(8, 4)), 5 * 8 * 4),
    "added vector": (lambda: torch.addmv(torch.rand(5), torch.rand(5, 8), torch.rand(8)), 5 * 8),
    "added batched": (lambda: torch.baddbmm(torch.rand(2, 5, 4), torch.rand(2, 5, 8), torch.rand(2, 8, 4)), 2 * 160),
    "summed batched": (lambda: torch.addbmm(torch.rand(5, 4), torch.rand(2, 5, 8), torch.rand(2, 8, 4)), 2 * 160),
    "einsum": (lambda: torch.einsum("bnd,bmd->bnm", torch.rand(2, 5, 8), torch.rand(2, 7, 8)), 2 * 5 * 7 * 8),
    "attention": (lambda: attention(), 2 * 4 * 5 * 7 * 16),
    "attention to wide values": (lambda: attention(width=24), 2 * 4 * 5 * 7 * 32),
    "masked attention": (lambda: attention(masked=True), 2 * 4 * 5 * 7 * 16),
    "attention of grouped heads": (lambda: attention(heads=2), 2 * 4 * 5 * 7 * 16),
    "nothing": (lambda: F.interpolate(F.layer_norm(torch.rand(1, 2, 8, 8), (8,)), scale_factor=2).softmax(1) * 3, 0),
    "a transform": (lambda: torch.fft.rfft2(torch.rand(4, 4)), 0),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", BY_HAND)
def test_counts_what_is_worked_out_by_hand(name: str, device: str) -> None:
    run, expected = BY_HAND[name]
    with torch.device(device):
        assert count(run) == expected


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_count_is_the_same_with_and_without_gradients_and_in_mixed_precision(mode: Callable) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5))

    def run() -> None:
        with mode():
            layers(torch.rand(2, 3, 5, 5))

    expected = 2 * (4 * 9 * 27 + 36 * 5)
    assert count(run) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert count(run) == expected


def test_a_call_counts_alone() -> None:
    assert [count(lambda: torch.rand(2, 3) @ torch.rand(3, 4)) for _ in range(2)] == [24, 24]
    assert count(lambda: None) == 0


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_agrees_with_torch_on_whole_networks(dims: int, task: str) -> None:
    source = find("spaces", f"hybrid{dims}d-tiny")
    space = read_space(read_yaml(source), str(source), task=task)
    for seed in range(3):
        with torch.device("meta"):
            network = build(space.sample(random.Random(seed)), Interface(task=task, channels=1, outputs=2)).eval()
            image = torch.empty(1, 1, *(18, 23, 16)[:dims])
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network(image)
            assert count(lambda network=network, image=image: network(image)) == counter.get_total_flops() // 2 > 0
