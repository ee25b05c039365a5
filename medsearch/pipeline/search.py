"""``medsearch search``: from data, space and budgets to trained, measured, exported networks and a report.

The time given is shared out: measuring the machine, the search, the full training of the finalists, and the checks of
what is delivered.  Trials and trainings run in single-threaded workers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from medsearch.core.callback import Callback, Callbacks
from medsearch.core.children import ChildDied
from medsearch.core.errors import BudgetError, RefusedError, RunError, SpaceError
from medsearch.measurement.budget import Costs, option, show
from medsearch.measurement.calibration import Accuracy
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.threads import torch_threads
from medsearch.nas import INTERRUPTED, ProposalStatistics, Search, Store, Trial, front, read_strategy
from medsearch.pipeline.calibration import calibrate_job, take_over
from medsearch.pipeline.finalists import compress_best, deliver_all, finalists
from medsearch.pipeline.fitting import ENDLESS
from medsearch.pipeline.job import Clock, Job, begin
from medsearch.pipeline.planner import Plan, plan, without_clock
from medsearch.pipeline.results import collect, trial_row
from medsearch.pipeline.setup import Setup, is_of_file, is_timed, samples
from medsearch.pipeline.trainings import evaluation, instead
from medsearch.report.page import write_report
from medsearch.run import Run
from medsearch.spaces import Genotype
from medsearch.train import EVALUATORS, TrainingRecipe
from medsearch.train.workers import default_workers, pool

DEFAULT_SECONDS = 15 * 60.0
MOST_FAILURES = 8  # trials that may fail before one ends well


def search(run: Run, setup: Setup, *, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Carry out a search in ``run``, from wherever it stands, and return its results (see ``results.json``).

    Args:
        run: where everything is kept, and what was asked.
        setup: what :func:`prepare` made of it.
        callbacks: told how it goes.

    Raises:
        BudgetError: if nothing fits; before anything is trained, and a new run is removed.
        RunError: if no trial ended well.
        RefusedError: if no trained network kept the budgets when it was measured.
        WriteError: if a file of the run cannot be written; what was finished is kept, and the run can be resumed.
    """
    config = run.config
    if config.time is None and config.trials is None:
        config = replace(config, time=DEFAULT_SECONDS)
    clock = Clock(config.time, run.seconds, time.monotonic())
    title = f"{setup.data.name}: {setup.data.task} in {setup.space.name}"
    workers = config.workers or default_workers()
    with (
        Callbacks(callbacks) as view,
        torch_threads(1),
        pool(setup.data, workers=1) as lab,
        pool(setup.data, workers=workers) as trainers,
    ):
        view.begin(title, seconds=config.time, spent=clock.before, resume=run.resume_command)
        _show_earlier(run, setup, view)
        try:
            job = begin(run, config, setup, view, clock, lab, trainers)
            _measure_machine(job)
        except (BudgetError, SpaceError):
            run.discard()
            raise
        planned = _planned(job)
        view.note(f"plan: {planned.sentence()}")
        trials = _search(job, planned)
        if not any(trial.state == "complete" for trial in trials):
            raise _nothing(job, trials)
        delivered, refused = deliver_all(job, finalists(job, planned, trials))
        results = collect(job, trials, delivered, refused)
        if config.compress:
            compress_best(job, results)
        write_report(results, run.folder)
        run.finish(results)
    if not any(network.within_budget for network in delivered):
        reasons = "; ".join(f"{entry['id']} {entry['reason']}" for entry in refused)
        raise RefusedError(str(run.folder), f"no trained network kept the budgets: {reasons}.")
    return results


def _measure_machine(job: Job) -> None:
    """Correct the cost model by whole networks, and make sure that something fits."""
    known = job.run.state().get("calibration")
    if known:
        take_over(job, known)
    else:
        with job.phase("measuring what networks cost on this machine"):
            for name, found in calibrate_job(job).items():
                job.view.note(f"{name}: predictions are off by {_percent(found)} over {found.networks} networks")
    try:
        tried = (*samples(job.setup), job.setup.space.first())
        if all(job.fitting(genotype).impossible for genotype in tried):
            last = f"; the last one: {job.deaths.of_run[-1]}" if job.deaths.of_run else ""
            problem = f"none of {len(tried)} networks of '{job.setup.space.name}' can be trained and run here{last}."
            raise RunError(
                str(job.run.folder), problem, "medsearch doctor --operators says what this machine cannot do."
            )
        budget = job.budget.only(job.fitting(tried[0]))
        if all(budget.violation(job.fitting(genotype)) > 0 for genotype in tried):
            budget.require_all(lambda goal: _least(job, goal), where=f"space '{job.setup.space.name}'")
        _require_measured(job, tried)
    finally:
        job.keep_measurements()


def _require_measured(job: Job, tried: Sequence[Genotype]) -> None:
    """Make sure that something keeps the limits on costs that cannot be predicted, by measuring until one does.

    The network with the fewest multiply-adds is measured first, because most costs grow with them.

    Raises:
        BudgetError: where none of the networks measured keeps one of them.
    """
    limits = {name: limit for name, limit in job.budget.items() if name not in job.fitting(tried[0])}
    smallest = job.setup.space.minimise(job.cost.macs) if limits else tried[0]
    for name, limit in limits.items():
        found = []
        for genotype in dict.fromkeys((smallest, *tried)):
            found.append(_measure_costs(job, genotype, [name]).high(name))
            if found[-1] <= limit:
                break
        else:
            raise _unmet(name, limit, found)


def _unmet(name: str, limit: float, found: Sequence[float]) -> BudgetError:
    where, least = f"--budget-{option(name)}", min(found)
    if math.isinf(least):
        return BudgetError(where, f"{name} can be measured on none of {len(found)} networks here.", "Set no limit.")
    problem = (
        f"none of {len(found)} networks measured fits {show(name, limit)}: the smallest needs {show(name, least)}."
    )
    return BudgetError(where, problem, f"Give at least {show(name, least * 1.05)}, or choose a smaller space.")


def _least(job: Job, goal: Callable[[Costs], float]) -> Costs:
    """The costs of the network of the space where ``goal`` is smallest."""
    return job.fitting(job.setup.space.minimise(lambda genotype: goal(job.fitting(genotype))))


def _measure_costs(job: Job, genotype: Genotype, names: Sequence[str]) -> Costs:
    """The costs of ``genotype``, those called ``names`` measured; endless where its process ended twice."""
    limits = job.budget
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


def _percent(found: Accuracy) -> str:
    return f"{found.median_error_percent:.1f} % (median), {found.largest_error_percent:.1f} % (largest)"


def _search(job: Job, plan: Plan) -> list[Trial]:
    """Trials until the search's share of the time, or the number asked for, is used up."""
    store = Store(job.run.storage, job.setup.space, objectives=job.config.objectives)
    if _over(job, plan, store.trials()):
        return store.trials()
    with job.phase("searching"):
        search = Search(
            space=job.setup.space,
            strategy=read_strategy(job.config.strategy, where="--strategy"),
            objectives=job.config.objectives,
            cost=job.fitting,
            budget=job.budget,
            evaluator=lambda genotype, rung: evaluation(job, genotype, plan, rung),
            rungs=plan.rungs,
            facts=job.fitting.facts,
            measure=lambda genotype, names: _measure_costs(job, genotype, names),
            failed=lambda genotype, problem, before: instead(job, genotype, problem, before),
            executor=job.trainers,
            store=store,
            workers=job.workers,
            seed=job.config.seed,
            proposals=ProposalStatistics(**job.run.state().get("proposals", {})),
        )
        for trial in search.run(
            until=lambda history: _over(job, plan, history), full=lambda history: _full(job, history)
        ):
            leading = front(store.trials())
            best = {one.number for one in leading}
            job.view.trial(trial_row(trial, best))
            job.view.front([trial_row(one, best) for one in leading])
            job.run.note(proposals=search.proposals.to_data(), seconds=job.clock.spent, trials=len(store.trials()))
    job.keep_measurements()
    return store.trials()


def _show_earlier(run: Run, setup: Setup, view: Callback) -> None:
    """Begin the view with the trials that earlier starts have ended.

    Raises:
        RunError: where the run knows of more than there are.
    """
    known = run.known_trials()
    objectives = run.config.objectives
    trials = Store(run.storage, setup.space, objectives=objectives).trials() if run.has_trials else []
    if len(trials) < known:
        problem = f"holds {len(trials)} trials, and the run has had {known}."
        raise RunError(str(run.folder / "study.db"), problem, "Restore it from a copy, or begin another run.")
    if not trials:
        return
    ended = [one for one in trials if one.state != "running" and one.facts.get("reason") != INTERRUPTED]
    leading = front(ended)
    best = {one.number for one in leading}
    view.earlier([trial_row(one, best) for one in ended], front=[trial_row(one, best) for one in leading])


def _over(job: Job, plan: Plan, trials: Sequence[Trial]) -> bool:
    """Whether the search has had its time, all of it while no trial ended well, or has failed too often."""
    good = [trial for trial in trials if trial.state != "failed"]
    if not good and len(_failures(trials)) >= MOST_FAILURES:
        return True
    if plan.search_end is None:
        return False
    return job.clock.spent >= plan.search_end if good else job.clock.left() <= 0


def _full(job: Job, trials: Sequence[Trial]) -> bool:
    """Whether no further trial shall begin: those that run are taken to end well until they have not."""
    good = [trial for trial in trials if trial.state != "failed"]
    return job.config.trials is not None and len(good) >= job.config.trials


def _planned(job: Job) -> Plan:
    """How the time is spent; what earlier starts have fixed for all trials stays."""
    config, state = job.config, job.run.state()
    known = state.get("plan") or {}
    continues = EVALUATORS[config.evaluator].CONTINUES  # type: ignore[attr-defined]
    epochs = config.epochs_search or known.get("epochs")
    first = known.get("first") or None  # 0 where there was time for one network alone
    if job.clock.budget is None:
        trials = config.trials or 1
        found = without_clock(
            trials=trials, finalists=config.finalists, first=first, epochs=epochs, continues=continues
        )
    elif known.get("training_end") is not None:  # goes on; an extension forgets these
        found = Plan.from_data(known)
    else:
        found = plan(
            left=job.clock.left(),
            spent=job.clock.spent,
            workers=job.workers,
            finalists=config.finalists,
            compress=config.compress,
            first=first,
            epochs=epochs,
            networks=config.trials,
            continues=continues,
        )
    job.run.note(plan=found.to_data())
    return found


def _failures(trials: Sequence[Trial]) -> list[str]:
    """Why trials failed, those aside that were killed."""
    return [reason for trial in trials if (reason := trial.facts.get("reason", INTERRUPTED)) != INTERRUPTED]


def _nothing(job: Job, trials: Sequence[Trial]) -> RunError:
    """What to say where there is nothing to train fully."""
    if reasons := _failures(trials):
        return RunError(str(job.run.folder), f"no trial ended well; {len(reasons)} failed, the last one: {reasons[-1]}")
    return RunError(
        str(job.run.folder), "the time ended before any trial did.", f"Give it more: {job.run.longer_command}"
    )
