"""The contract of a deployment target (``medsearch/targets/target.py``)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsearch.blocks.nd import BATCH_NORM, CONV
from medsearch.measurement.latency.timing import timed
from medsearch.targets import TARGETS
from medsearch.targets.target import Target, difference, make_target
from medsearch.testing.contract import registered, wants

TOLERANCE = 1e-3
"""Of outputs, relative to the largest."""
CHANNELS, SIDE = 3, 8


def check_target(target: str | type, *, threads: int = 1, dims: int = 2) -> None:
    """Everything that is wanted of a deployment target: a small network is exported, run and compared.

    Args:
        target: name or class.
        threads: of the host.
        dims: spatial axes of the network, 2 or 3.

    Raises:
        UsageError: where this machine cannot run it.
        AssertionError: where it does not keep the contract.
    """
    name, _ = registered(TARGETS, target)
    made = make_target(name, threads)
    _check_description(name, made, make_target(name, threads))
    network = nn.Sequential(CONV[dims](CHANNELS, 8, 3), BATCH_NORM[dims](8), nn.GELU(), CONV[dims](8, 2, 1)).train()
    artifact = _check_export(name, made, network, dims)
    _check_outputs(name, made, artifact, network, dims)
    _check_timing(name, made, artifact, "a network")
    maps = torch.rand(1, 4, *(SIDE,) * dims)
    _check_timing(name, made, made.export_fast(_Sum(), ([maps, maps], maps)), "a part that takes a list of maps")


class _Sum(nn.Module):
    """Takes what a head takes: maps, and the image."""

    def forward(self, maps: list[Tensor], image: Tensor) -> Tensor:
        return torch.stack(maps).sum(0) + image


def _check_description(name: str, target: Target, again: Target) -> None:
    said: Any = target.describe()
    has = isinstance(said, dict) and said.get("runtime")
    wants(has, f"target {name}: describe() gives a dict with the 'runtime' and its version, got {said!r}.")
    try:
        read = json.loads(json.dumps(said))
    except TypeError as problem:
        raise AssertionError(f"target {name}: describe() holds texts, for JSON: {problem}.") from problem
    same = f"target {name}: describe() is the same each time, for timings are kept under it"
    wants(read == said == again.describe(), f"{same}: {said}, then {again.describe()}.")
    dotted = target.suffix.startswith(".")
    wants(dotted, f"target {name}: suffix is the ending of a file, such as .bin, got {target.suffix!r}.")


def _check_export(name: str, target: Target, network: nn.Module, dims: int) -> bytes:
    """The artifact of ``network``, which stays as it is."""
    image_1CS = torch.zeros(1, CHANNELS, *(SIDE,) * dims)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    artifact, again = target.export(network, image_1CS), target.export(network, image_1CS)
    is_file = isinstance(artifact, bytes) and artifact
    wants(is_file, f"target {name}: export() gives a file as bytes, got {type(artifact).__name__}.")
    wants(network.training, f"target {name}: export() leaves the network in its mode; export a plain_copy of it.")
    kept = all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    wants(kept, f"target {name}: export() leaves the weights as they are; export a plain_copy of it.")
    sizes, close = (len(artifact), len(again)), abs(len(again) - len(artifact)) <= 0.01 * len(artifact)
    wants(close, f"target {name}: export() gives files of one size for one network, which budgets limit, got {sizes}.")
    wanted, found = (tuple(image_1CS.shape),), tuple(map(tuple, target.input_shapes(artifact)))
    wants(found == wanted, f"target {name}: input_shapes() says what a file takes, {wanted} here, got {found}.")
    return artifact


def _check_outputs(name: str, target: Target, artifact: bytes, network: nn.Module, dims: int) -> None:
    images_NCS = np.random.default_rng(0).uniform(0, 255, (3, CHANNELS, *(SIDE,) * dims)).astype(np.float32)
    wanted, found = (3, 2, *(SIDE - 2,) * dims), np.asarray(target.outputs(artifact, images_NCS)).shape
    wants(found == wanted, f"target {name}: outputs() gives one output per image, {wanted} here, got {found}.")
    far = difference(target, artifact, network, images_NCS)
    said = f"target {name}: outputs() are the network's in eval mode, in the order of the images, to {TOLERANCE}"
    wants(far <= TOLERANCE, f"{said} of the largest; they differ by {far:.2g}.")


def _check_timing(name: str, target: Target, artifact: bytes, what: str) -> None:
    found = timed(target.runner(artifact), seconds=0.0, clock=target.clock).median_ms
    wants(found > 0, f"target {name}: clock() says in seconds how long a run of {what} took; it says {found} ms.")
