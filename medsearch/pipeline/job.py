"""One search being carried out: what all its phases share."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from medsearch.config import SearchConfig
from medsearch.core.callback import Callback
from medsearch.core.children import ChildDied, Children
from medsearch.core.deaths import Deaths
from medsearch.core.errors import WriteError
from medsearch.measurement.budget import Budget
from medsearch.measurement.costs import wanted
from medsearch.measurement.device import Profile, deaths_file
from medsearch.measurement.latency import timer
from medsearch.measurement.latency.prior import shipped
from medsearch.measurement.memory.processor import in_a_line, operators_file
from medsearch.measurement.model import Conditions, CostModel
from medsearch.nas.initial_designs import middle
from medsearch.pipeline.fitting import LAST_RESORT, Fitting, named
from medsearch.pipeline.precision import faster_precision
from medsearch.pipeline.setup import Setup, open_profile, with_precision
from medsearch.run import Run
from medsearch.spaces import Genotype


@dataclass
class Clock:
    """Seconds spent on a run, over all the times it was started."""

    budget: float | None
    before: float
    start: float

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self.start

    def left(self, share: float = 1.0) -> float:
        """Seconds until ``share`` of the budget is used up; endless without a budget."""
        return math.inf if self.budget is None else share * self.budget - self.spent


@dataclass
class Job:
    """One search being carried out; what may end the process it runs in is done by ``lab`` and ``trainers``."""

    run: Run
    config: SearchConfig
    setup: Setup
    cost: CostModel
    fitting: Fitting
    budget: Budget
    view: Callback
    clock: Clock
    workers: int
    lab: Children
    trainers: Children
    deaths: Deaths

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Show that ``name`` begins, and keep the time it took."""
        self.view.phase(name)
        start = time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(WriteError):  # what ended the phase is what has to be said
                self._note(name, start)
            raise
        self._note(name, start)

    def _note(self, name: str, start: float) -> None:
        seconds = self.run.state().get("phases", {})
        key = name.split()[0]
        seconds[key] = seconds.get(key, 0.0) + time.monotonic() - start
        self.run.note(phases=seconds, seconds=self.clock.spent)

    def died(self, genotype: Genotype, death: ChildDied, *, precision: str = "") -> str:
        """Remember and show that a network ended the process that worked on it; returns what is said of it."""
        said = str(self.deaths.record(death, named(genotype), precision=precision))
        self.view.note(said)
        return said

    def keep_measurements(self) -> None:
        """Save what was timed, and what operators take inside; the latter only where the cache can be written."""
        self.keep_timings()
        if self.cost.workspaces.device == "cpu":
            with suppress(WriteError):
                self.cost.workspaces.save(operators_file())

    def keep_timings(self, *, every: float = 0.0) -> None:
        """Save what was timed, unless that was done less than ``every`` seconds ago.

        In the cache, or in the run where the cache cannot be written, which is said once.
        """
        profile = self.cost.profile
        try:
            profile.save(every=every)
        except WriteError as problem:
            if profile.path == self.run.profile:
                raise
            profile.move(self.run.profile)
            self.view.note(f"{problem.where}: {problem.problem}  Timings are kept in {profile.path} instead.")
            profile.save()


def begin(
    run: Run,
    config: SearchConfig,
    setup: Setup,
    view: Callback,
    clock: Clock,
    lab: Children,
    trainers: Children,
) -> Job:
    """What ``config`` asks for, as far as it is known before anything is measured but the faster precision.

    Args:
        run, config, setup: as for :func:`~medsearch.pipeline.search.search`.
        view: shows how far it is.
        clock: of the run.
        lab: a process that holds the data, for whatever is measured or exported.
        trainers: those that train.
    """
    profile = open_profile(config)
    if run.profile.exists():
        profile.move(run.profile)
    deaths = Deaths(in_a_line(profile.device["runtime"]), run=run.deaths, cache=deaths_file())
    budget, first = config.budget, middle(setup.space)
    names = wanted(config.objectives, budget)
    cost = _cost_model(setup, profile=profile, names=names, any_batch=config.fit_batch, lab=lab, deaths=deaths)
    precision = run.state().get("precision", config.precision)
    if precision is None:
        view.phase("choosing the precision of training")
        precision, died = faster_precision(setup, profile, lab, deaths, meanwhile=lambda: cost.macs(first))
        for line in died:
            view.note(line)
        run.note(precision=precision)
    if "latency" in names and profile.pace is None:
        timer.begin()
    cost.train_in(precision)
    if precision != LAST_RESORT and (dead := _deadly(cost, first)):
        view.note(dead)
        precision = LAST_RESORT
        cost.train_in(precision)
        run.note(precision=precision, precision_because=dead)
    setup = with_precision(setup, precision)
    job = Job(
        run=run,
        config=config,
        setup=setup,
        cost=cost,
        fitting=Fitting(
            cost=cost,
            recipe=setup.recipe,
            limit=budget.get("memory") if config.fit_batch else None,
            changing=lab.call(setup.changing_memory) if config.fit_batch else 0,
            precisions=tuple(dict.fromkeys((setup.recipe.precision, config.precision or "bf16"))),
            deaths=deaths,
        ),
        budget=budget,
        view=view,
        clock=clock,
        workers=trainers.count,
        lab=lab,
        trainers=trainers,
        deaths=deaths,
    )
    cost.times.keep = job.keep_timings
    return job


def _deadly(cost: CostModel, genotype: Genotype) -> str:
    """What is wrong with the precision of training, if it ends the process of this network, the first to be tried."""
    dead = cost.steps.chain(genotype, batch=cost.conditions.batch, precision=cost.conditions.precision).deadly
    if not dead:
        return ""
    kinds = ", ".join(sorted({operator.partition("(")[0] for operator in dead}))
    return f"in {cost.conditions.precision} {kinds} end the process that runs them; so this run trains in {LAST_RESORT}"


def _cost_model(
    setup: Setup, *, profile: Profile, names: Sequence[str], any_batch: bool, lab: Children, deaths: Deaths
) -> CostModel:
    recipe = setup.recipe
    threads = profile.device["threads"]
    conditions = Conditions(size=setup.data.size, batch=recipe.batch, precision=recipe.precision, threads=threads)
    cost = CostModel(
        setup.interface,
        conditions,
        profile,
        names=names,
        loss=setup.task.loss,
        any_batch=any_batch,
        helper=lab,
        deaths=deaths,
        prior=shipped(profile.target, torch.backends.cpu.get_cpu_capability()),
    )
    if cost.workspaces.device == "cpu":
        cost.workspaces.load(operators_file())
    return cost
