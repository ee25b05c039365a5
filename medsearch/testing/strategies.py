"""The contract of a search strategy (``medsearch.nas.strategy``)."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any, cast

from medsearch.nas import STRATEGIES, Strategy, Trial
from medsearch.spaces import Genotype, Space, read_space
from medsearch.testing.contract import registered, wants

LENGTHS, SEEDS = (0, 1, 12, 40), range(6)


def check_strategy(strategy: str | type) -> None:
    """Everything that is wanted of a strategy: proposals out of the space, and nothing but its arguments decides."""
    name, kind = registered(STRATEGIES, strategy)
    made, space = cast(Strategy, kind()), toy_space()
    history = toy_history(space, max(LENGTHS))
    for length in LENGTHS:
        past = history[:length]
        before = copy.deepcopy(past)
        drawn = [made(space, past, seed) for seed in SEEDS]
        wants(past == before, f"strategy {name}: changes the history it is given.")
        again = [cast(Strategy, kind())(space, list(past), seed) for seed in reversed(SEEDS)]
        same = drawn == again[::-1]
        wants(same, f"strategy {name}: asked again, proposes something else; space, history and seed alone decide.")
        wants(all(member(space, one) for one in drawn), f"strategy {name}: proposes what is not in the space.")
    fixed = read_space({**toy_data(), "stages": [{"dim": 8, "mixer": "dwconv", "channel": "mlp"}]}, "fixed")
    wants(made(fixed, [], 0) == fixed.first(), f"strategy {name}: a space without a choice has one network to propose.")


def member(space: Space, genotype: Any) -> bool:
    """Whether ``genotype`` is a network of ``space``."""
    return isinstance(genotype, Genotype) and space.decode(space.encode(genotype)) == genotype


def toy_data() -> dict[str, Any]:
    """Two stages, each of three widths and three mixers, one of which has two kernels: (3 * 4)^2 = 144 networks."""
    kernels = {"name": "dwconv", "kernel": {"choice": [3, 5]}}
    mixers = {"choice": [kernels, {"name": "linear_attention"}, {"name": "block_gmlp", "block": 4}]}
    stage = {"dim": {"choice": [8, 16, 32]}, "mixer": mixers, "channel": "mlp"}
    return {"name": "toy", "dims": 2, "stem": "conv", "heads": {"classification": "classify"}, "stages": [stage, stage]}


def toy_space() -> Space:
    """The space of :func:`toy_data`."""
    return read_space(toy_data(), "toy.yaml")


def toy_history(space: Space, length: int) -> Sequence[Trial]:
    """Random trials, every eighth of them failed; wider networks are better and dearer."""
    rng = random.Random(0)
    trials = []
    for number in range(length):
        genotype = space.sample(rng)
        state = "failed" if number % 8 == 3 else "complete"
        width = sum(stage.dim for stage in genotype.stages)
        error = 0.5 - 0.004 * width + 1e-4 * number
        trials.append(
            Trial(
                number=number,
                genes=space.encode(genotype),
                genotype=genotype,
                objectives=None if state == "failed" else (error, float(width), 1e6 * width),
                metrics={} if state == "failed" else {"accuracy": 1 - error},
                curve=() if state == "failed" else (2 * error, error),
                state=state,
                facts={"seconds": 1.0},
            )
        )
    return trials
