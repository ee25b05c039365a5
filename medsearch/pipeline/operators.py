"""``medsearch doctor --operators``: every operator that training a space needs, run once in a child that may die."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import islice
from typing import Any

from medsearch.core.deaths import Deaths
from medsearch.core.errors import WriteError
from medsearch.measurement.device import deaths_file
from medsearch.measurement.memory.operators import isolated
from medsearch.measurement.memory.processor import in_a_line, operators_file
from medsearch.measurement.memory.step import StepMemory, this_device
from medsearch.measurement.memory.workspace import Workspaces, run_operator
from medsearch.pipeline.profile import covering
from medsearch.pipeline.setup import Setup
from medsearch.train.workers import pool

PRECISIONS = ("fp32", "bf16")
SAID_EVERY = 50


def exercise(
    setup: Setup, machine: dict[str, Any], *, say: Callable[[str], None], networks: int | None = None
) -> list[dict[str, Any]]:
    """Trace networks that between them have every option of the space, in both precisions, and run their operators.

    What an operator takes is kept for later searches, and so is what it has done to the process that ran it.

    Args:
        setup: space, data, and batch.
        machine: the device, as a profile describes it.
        say: told how far it is.
        networks: how many; None gives all that are needed.
    """
    drawn = list(islice(covering(setup.space, random.Random(1)), networks))
    deaths = Deaths(in_a_line(machine["runtime"]), cache=deaths_file())
    device = this_device()
    rows, ended = [], []
    with pool(setup.data, workers=1) as child:
        spaces = Workspaces(device.kind, measure=isolated(run_operator, child, deaths))
        batch = setup.recipe.batch
        steps = StepMemory(
            setup.interface,
            setup.data.size,
            batches=(batch, batch),
            loss=setup.task.loss,
            workspaces=spaces,
            device=device,
        )
        for precision in PRECISIONS:
            before = len(spaces.known) + len(spaces.died)
            found: set[str] = set()
            for count, genotype in enumerate(drawn, start=1):
                found |= steps.chain(genotype, batch=batch, precision=precision).deadly
                if count % SAID_EVERY == 0:
                    say(f"{precision}: {count} of {len(drawn)} networks")
            run = len(spaces.known) + len(spaces.died) - before
            said = f"{run} operators looked at, {len(found)} end their process"
            rows.append({"what": f"training in {precision}, batch {batch}", "here": said})
            ended += [(precision, operator) for operator in sorted(found)]
        try:
            spaces.save(operators_file())
        except WriteError as problem:
            say(f"{problem.where}: {problem.problem}")
    rows += [
        {"what": f"cannot be done in {precision}", "here": f"{name}: {spaces.died[name].how}"}
        for precision, name in ended
    ]
    verdict = (
        "networks with these operators are trained in fp32, and those that need them there not at all"
        if ended
        else "nothing was found that it cannot do"
    )
    return [*rows, {"what": "this machine", "here": verdict}]
