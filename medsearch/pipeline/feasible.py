"""Whether anything of a space keeps the limits, found with the least work; and what predictions leave open, measured.

A limit that the first network keeps for sure needs nothing else.  Otherwise the smallest networks decide: where even
the lower end of their interval is over, the search ends at once; where the interval straddles the limit, they are
measured, and nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from medsearch.core.children import ChildDied
from medsearch.core.errors import BudgetError, RunError
from medsearch.measurement.budget import Budget, Costs, option, show
from medsearch.measurement.estimate import Estimate
from medsearch.nas.initial_designs import middle
from medsearch.pipeline.calibration import learn
from medsearch.pipeline.fitting import ENDLESS
from medsearch.pipeline.job import Job
from medsearch.pipeline.setup import is_of_file, is_timed, samples
from medsearch.spaces import Genotype
from medsearch.train import TrainingRecipe

FAR = 2.0
"""How many times a limit the smallest network by multiply-adds or parameters may take before no other is looked for."""


def require_feasible(job: Job) -> None:
    """Make sure that something can be trained here and may keep the limits, before anything is trained.

    Raises:
        BudgetError: naming the limit that nothing keeps, and the least that can be had.
        RunError: where no network can be trained and run on this machine.
    """
    first = middle(job.setup.space)
    costs = job.fitting(first)
    if costs.impossible:
        _require_possible(job)
    known = job.budget.only(costs)
    if known.violation(costs) > 0:
        _require_predicted(job, known)
    _require_measured(job, first)
    job.keep_measurements()


def _require_possible(job: Job) -> None:
    tried = samples(job.setup)
    if all(job.fitting(genotype).impossible for genotype in tried):
        last = f"; the last one: {job.deaths.of_run[-1]}" if job.deaths.of_run else ""
        problem = f"none of {len(tried)} networks of '{job.setup.space.name}' can be trained and run here{last}."
        raise RunError(str(job.run.folder), problem, "medsearch doctor --operators says what this machine cannot do.")


def _require_predicted(job: Job, limits: Budget) -> None:
    """The same for what is predicted, by intervals; what they leave open is measured on the smallest networks."""
    small, where = list(_small(job)), f"space '{job.setup.space.name}'"
    found: list[Genotype] = []

    def costs(genotype: Genotype) -> Costs:
        return job.fitting(genotype, limits)

    def smallest(name: str) -> Costs:
        return min(map(costs, small), key=lambda known: known.low(name))

    def least(goal: Callable[[Costs], float]) -> Costs:
        def value(genotype: Genotype) -> float:
            return goal(costs(genotype))

        found.append(job.setup.space.minimise(value, min(small, key=value)))
        return costs(found[-1])

    far = [name for name, limit in limits.items() if smallest(name).low(name) > FAR * limit]
    limits.only(far).require(smallest, where=where)
    if any(limits.violation(costs(genotype)) <= 0 for genotype in small):
        return
    limits.require_all(least, where=where)
    candidates = list(dict.fromkeys((*found, *small)))
    for name, limit in limits.items():
        if not any(costs(genotype).high(name) <= limit for genotype in candidates):
            _measure_until_kept(job, name, limit, [one for one in candidates if costs(one).low(name) <= limit])


def _small(job: Job) -> Iterator[Genotype]:
    """Networks near the small end of most costs, found by what is counted in no time."""
    space, cost = job.setup.space, job.cost
    seen = dict.fromkeys((space.minimise(cost.macs), space.minimise(cost.parameters), space.first()))
    if "latency" in job.budget:
        seen[space.minimise(lambda genotype: cost.milliseconds(genotype).total, next(iter(seen)))] = None
    yield from seen


def _require_measured(job: Job, first: Genotype) -> None:
    """Make sure that something keeps the limits on costs that cannot be predicted, by measuring until one does.

    The network with the fewest multiply-adds is measured first, because most costs grow with them.

    Raises:
        BudgetError: where none of the networks measured keeps one of them.
    """
    limits = {name: limit for name, limit in job.budget.items() if name not in job.fitting(first)}
    if limits:
        smallest = job.setup.space.minimise(job.cost.macs)
        tried = list(dict.fromkeys((smallest, *samples(job.setup), job.setup.space.first())))
        for name, limit in limits.items():
            _measure_until_kept(job, name, limit, tried)


def _measure_until_kept(job: Job, name: str, limit: float, tried: Sequence[Genotype]) -> None:
    found = []
    for genotype in tried:
        found.append(measure_costs(job, genotype, [name]).high(name))
        if found[-1] <= limit:
            return
    raise _unmet(name, limit, found)


def _unmet(name: str, limit: float, found: Sequence[float]) -> BudgetError:
    where, least = f"--budget-{option(name)}", min(found)
    if math.isinf(least):
        return BudgetError(where, f"{name} can be measured on none of {len(found)} networks here.", "Set no limit.")
    problem = (
        f"none of {len(found)} networks measured fits {show(name, limit)}: the smallest needs {show(name, least)}."
    )
    return BudgetError(where, problem, f"Give at least {show(name, least * 1.05)}, or choose a smaller space.")


def measure_costs(job: Job, genotype: Genotype, names: Sequence[str]) -> Costs:
    """The costs of ``genotype`` with no doubt left whether the limits on those called ``names`` are kept.

    Parts that nothing is known of are timed first; where that leaves the limit inside the interval, and for every other
    cost, the whole network is measured, untrained.  Memory is endless where its process ended twice.
    """
    limits = job.budget
    if is_timed(names) and job.cost.prior is not None:
        job.cost.time_parts([genotype])
        job.keep_timings()
        after = job.fitting(genotype)
        names = [name for name in names if name not in after or name not in limits or name in limits.doubtful(after)]
        if not names or after.impossible:
            return after
    before = job.fitting(genotype)
    for _ in range(2):
        recipe = job.fitting.recipe_of(genotype)
        try:
            found = _measured(job, genotype, recipe, names)
            break
        except ChildDied as death:
            job.died(genotype, death, precision=recipe.precision)
    else:
        return job.fitting(genotype) | {"memory": ENDLESS}
    said = ", ".join(f"{name} {_of_limit(name, one.high, limits)}" for name, one in found.items())
    job.view.note(f"{genotype.id} measured before its trial: {said}")
    learn(job, genotype, before, found)
    return job.fitting(genotype) | found


def _of_limit(name: str, value: float, limits: Mapping[str, float]) -> str:
    """``24 ms of 25 ms``; without a limit, ``24 ms``."""
    return show(name, value) + (f" of {show(name, limits[name])}" if name in limits else "")


def _measured(job: Job, genotype: Genotype, recipe: TrainingRecipe, names: Sequence[str]) -> dict[str, Estimate]:
    setup = job.setup
    artifact = job.lab.call(setup.exported, genotype) if is_of_file(names) else b""
    timing = job.cost.times.latency(artifact) if is_timed(names) else None
    found: dict[str, Estimate] = job.lab.call(
        setup.costs, genotype, recipe, tuple(names), artifact, timing, doing="measuring"
    )
    return found
