"""``medsearch doctor --profile``: what this device needs for the parts of a space, with its held-out error."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from medsearch.measurement.calibration import Accuracy
from medsearch.measurement.device import Profile
from medsearch.measurement.latency.residual import fit, with_repeats
from medsearch.measurement.latency.timer import restart
from medsearch.measurement.model import Conditions, CostModel
from medsearch.pipeline.setup import Setup
from medsearch.spaces import Genotype, Space

MOST_PARTS = 180
"""Parts that are timed at most."""
NETWORKS = 20
"""Whole networks that are timed: what sums over parts miss is learned from them."""
ROUNDS, REPEATS = 9, 3
DRAWN = 300


def profiled(setup: Setup) -> str:
    """What a residual model of a profile holds for: space, task, channels and image size."""
    size = "x".join(map(str, setup.data.size))
    return f"{setup.space.name} {setup.data.task} {setup.interface.channels}x{size}"


def make_profile(
    setup: Setup,
    profile: Profile,
    *,
    say: Callable[[str], None],
    benchmarks: int = MOST_PARTS,
    networks: int = NETWORKS,
) -> list[dict[str, Any]]:
    """Time parts of a search's space, then whole networks of it, and save both in ``profile``.

    Parts and networks are timed in :data:`ROUNDS` rounds, each in random order.
    """
    begun = time.perf_counter()
    conditions = Conditions(size=setup.data.size, batch=setup.recipe.batch, precision="fp32")
    cost = CostModel(setup.interface, conditions, profile, names=("latency",))
    rng = random.Random(1)
    candidates = [benchmark for genotype in covering(setup.space, rng) for benchmark in cost.benchmarks(genotype)]
    wanted = cost.times.missing(candidates)[:benchmarks]
    say(f"{len(wanted)} parts to time, then {networks} networks, in {ROUNDS} rounds each")
    cost.times.time(wanted, rounds=ROUNDS, seen=_each_round(len(wanted), say))
    drawn = [setup.space.sample(rng) for _ in range(networks)]
    repeats = _measured(setup, cost, drawn, say)
    measured = [statistics.median(spent) for spent in repeats]
    sums = [cost.sums(genotype) for genotype in drawn]
    residual = fit([total.latency for total in sums], [total.features for total in sums], measured)
    predicted = [residual.apply(total.latency, total.features, "ms").value for total in sums]
    unseen = [value / math.exp(error) for value, error in zip(measured, residual.errors, strict=True)]
    accuracy = Accuracy.of(unseen, measured)
    name, residual = profiled(setup), with_repeats(residual, measured, repeats)
    profile.residuals[name] = residual
    profile.accuracy[name] = {
        "benchmarks": len(wanted) + networks,
        "networks": networks,
        "held_out_median_error_percent": accuracy.median_error_percent,
        "held_out_p95_error_percent": accuracy.p95_error_percent,
        "fitted_median_error_percent": Accuracy.of(predicted, measured).median_error_percent,
        "interval_percent": 100 * residual.spread,
    }
    profile.save()
    found = {
        "for": name,
        "benchmarks": len(wanted) + networks,
        "held-out median error %": round(accuracy.median_error_percent, 2),
        "95th percentile %": round(accuracy.p95_error_percent, 2),
        "interval +- %": round(100 * residual.spread, 1),
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "profile": str(profile.path),
    }
    return [{"what": what, "here": str(value)} for what, value in found.items()]


def _each_round(parts: int, say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Says how far timing is whenever every part has been timed once more."""

    def seen(done: int, total: int) -> None:
        if done % parts == 0:
            say(f"parts: round {done // parts} of {total // parts}")

    return seen


def covering(space: Space, rng: random.Random) -> Iterator[Genotype]:
    """Genotypes that between them have every option: at the narrowest widths, at the widest, then at random."""
    widths = {gene: options for gene, options in space.genes().items() if gene.endswith(".dim")}
    for pick in (0, -1):
        given = {gene: options[pick] for gene, options in widths.items()}
        for gene, options in space.genes().items():
            if gene not in widths:
                yield from (space.with_option(gene, option, given) for option in options)
    yield from (space.sample(rng) for _ in range(DRAWN))


def _measured(setup: Setup, cost: CostModel, drawn: list[Genotype], say: Callable[[str], None]) -> list[list[float]]:
    """Milliseconds of whole networks, measured :data:`REPEATS` times, each in a process of its own."""
    files, found = [setup.file(genotype) for genotype in drawn], []
    for repeat in range(REPEATS):
        restart()
        found.append(cost.times.whole(files, rounds=ROUNDS // REPEATS))
        say(f"networks: {repeat + 1} of {REPEATS} measurements")
    return [list(values) for values in zip(*found, strict=True)]
