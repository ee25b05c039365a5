"""The contract of a deployment target (``medsearch/targets/target.py``), held to on a small network."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.blocks.nd import BATCH_NORM, CONV
from medsearch.measurement.latency.timing import timed
from medsearch.targets.target import Target, difference, make_target

TOLERANCE = 1e-3
"""Of outputs, relative to the largest."""
CHANNELS, SIDE = 3, 8


def check_target(name: str, *, threads: int = 1, dims: int = 2) -> None:
    """Export a small network for a target, run it and compare; for the tests of the package that has the target.

    Args:
        name: of the target, whose module has been imported.
        threads: of the host.
        dims: spatial axes of the network, 2 or 3.

    Raises:
        UsageError: if there is no such target, or this machine cannot run it.
        AssertionError: where it does not keep the contract; the message says what that wants.
    """
    target = make_target(name, threads)
    _check_description(name, target, make_target(name, threads))
    torch.manual_seed(0)
    network = nn.Sequential(CONV[dims](CHANNELS, 8, 3), BATCH_NORM[dims](8), nn.GELU(), CONV[dims](8, 2, 1)).train()
    artifact = _check_export(name, target, network, dims)
    _check_outputs(name, target, artifact, network, dims)
    _check_timing(name, target, artifact, "a network")
    maps = torch.rand(1, 4, *(SIDE,) * dims)
    _check_timing(name, target, target.export_fast(_Sum(), ([maps, maps], maps)), "a part that takes a list of maps")


class _Sum(nn.Module):
    """Takes what a head takes: maps, and the image."""

    def forward(self, maps: list[Tensor], image: Tensor) -> Tensor:
        return torch.stack(maps).sum(0) + image


def _check_description(name: str, target: Target, again: Target) -> None:
    said: Any = target.describe()
    assert isinstance(said, dict) and said.get("runtime"), (
        f"{name}: describe() gives a dict with the name and version of the 'runtime', got {said!r}"
    )
    try:
        read = json.loads(json.dumps(said))
    except TypeError as problem:
        raise AssertionError(f"{name}: describe() is written to JSON, so it holds texts; {problem}") from problem
    assert read == said == again.describe(), (
        f"{name}: describe() is the same each time, for timings are kept under it: {said}, then {again.describe()}"
    )
    assert target.suffix.startswith("."), f"{name}: suffix is the ending of a file, such as .bin, got {target.suffix!r}"


def _check_export(name: str, target: Target, network: nn.Module, dims: int) -> bytes:
    """The artifact of ``network``, which stays as it is."""
    image_1CS, before = torch.zeros(1, CHANNELS, *(SIDE,) * dims), _state(network)
    artifact, again = target.export(network, image_1CS), target.export(network, image_1CS)
    assert isinstance(artifact, bytes) and artifact, f"{name}: export() gives a file as bytes, got {type(artifact)}"
    assert network.training, f"{name}: export() leaves the network in its mode; export a plain_copy of it"
    kept = all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert kept, f"{name}: export() leaves the weights and statistics as they are; export a plain_copy of the network"
    assert abs(len(again) - len(artifact)) <= 0.01 * len(artifact), (
        f"{name}: export() gives files of one size for one network, which budgets limit: {len(artifact)}, {len(again)}"
    )
    wanted = (tuple(image_1CS.shape),)
    found = tuple(map(tuple, target.input_shapes(artifact)))
    assert found == wanted, f"{name}: input_shapes() says what the artifact takes, {wanted} here, got {found}"
    return artifact


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def _check_outputs(name: str, target: Target, artifact: bytes, network: nn.Module, dims: int) -> None:
    images_NCS = np.random.default_rng(0).uniform(0, 255, (3, CHANNELS, *(SIDE,) * dims)).astype(np.float32)
    seen = np.asarray(target.outputs(artifact, images_NCS))
    wanted = (3, 2, *(SIDE - 2,) * dims)
    assert seen.shape == wanted, f"{name}: outputs() gives one output per image, {wanted} here, got {seen.shape}"
    far = difference(target, artifact, network, images_NCS)
    assert far <= TOLERANCE, (
        f"{name}: outputs() are the network's in eval mode, to {TOLERANCE} of the largest, in the order of the images; "
        f"they differ by {far:.2g}"
    )


def _check_timing(name: str, target: Target, artifact: bytes, what: str) -> None:
    run = target.runner(artifact)
    found = timed(run, seconds=0.0, clock=target.clock)
    assert found.median_ms > 0, (
        f"{name}: clock() says in seconds how long a run of {what} took, to the end; the median of {found.runs} is "
        f"{found.median_ms} ms"
    )
