"""Which precision a machine trains faster in: one block, run a few times, and the answer remembered."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from medsearch.core.children import ChildDied, Children
from medsearch.core.deaths import Deaths
from medsearch.measurement.device import Profile
from medsearch.measurement.memory.processor import instructions
from medsearch.nas.initial_designs import middle
from medsearch.pipeline.fitting import LAST_RESORT
from medsearch.pipeline.setup import Setup
from medsearch.spaces import Genotype

SECONDS = 0.15
"""Of timing one precision, after warming up."""
MOST_NUMBERS = 1 << 18
"""In the maps that the block is timed on: enough to keep the processor busy, few enough to be quick."""
WARM_UP, LEAST = 2, 3


def faster_precision(
    setup: Setup, profile: Profile, lab: Children, deaths: Deaths, *, meanwhile: Callable[[], object]
) -> tuple[str, list[str]]:
    """``"bf16"`` where a training step is faster with it here and does not end its process, else ``"fp32"``.

    Args:
        setup: whose middle network lends the block.
        profile: remembers the answer, unless a process ended over it.
        lab: times.
        deaths: are told of every process that ended.
        meanwhile: is called while the lab is at work, which may still be beginning.

    Returns:
        The precision, and what ended processes, to be said.
    """
    key, seconds, said = training_machine(), {}, []
    if key in profile.precisions:
        return profile.precisions[key], []
    timed = {
        precision: lab.submit(block_seconds, setup, precision, doing="timing a training step")
        for precision in ("fp32", "bf16")
    }
    meanwhile()
    for precision, timing in timed.items():
        try:
            seconds[precision] = float(timing.result())
        except ChildDied as death:
            said.append(str(deaths.record(death, "a block", precision=precision)))
    faster = min(seconds, key=seconds.__getitem__, default=LAST_RESORT)
    if not said:
        profile.precisions[key] = faster
    return faster, said


def training_machine() -> str:
    """What trains here: the GPU by its name, or the processor with its instructions and libraries."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return ", ".join(instructions().values())


def block_seconds(setup: Setup, precision: str) -> float:
    """Seconds of one pass forwards and backwards through a block of the space's middle network, the fastest of some."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    block, maps_BCS = _block(setup, middle(setup.space), device)
    spent: list[float] = []
    end = math.inf
    while len(spent) < WARM_UP + LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = block(maps_BCS).float().square().mean()
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
        if len(spent) == WARM_UP:
            end = time.perf_counter() + SECONDS
    return min(spent[WARM_UP:])


def _block(setup: Setup, genotype: Genotype, device: str) -> tuple[nn.Module, torch.Tensor]:
    """A block from the middle of a network, and maps for it."""
    network = setup.network(genotype)
    stages = list(network.stages)
    place = (len(stages) - 1) // 2
    with torch.no_grad():
        maps_1CS = network.eval().features(torch.zeros(1, setup.data.channels, *setup.data.size))[place]
    batch = max(2, min(setup.recipe.batch, MOST_NUMBERS // maps_1CS.numel()))
    layout = torch.channels_last if setup.data.dims == 2 else torch.channels_last_3d
    maps_BCS = torch.randn(batch, *maps_1CS.shape[1:], device=device).contiguous(memory_format=layout)
    (block, *_) = cast(nn.ModuleList, stages[place].blocks)
    return block.to(device).train(), maps_BCS.requires_grad_()
