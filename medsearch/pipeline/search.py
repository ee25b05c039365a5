"""``medsearch search``: from data, space and budgets to trained, measured, exported networks and a report.

The time given is shared out: the search, the full training of the finalists, and the checks of
what is delivered.  Trials and trainings run in single-threaded workers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medsearch.core.callback import Callback, Callbacks
from medsearch.core.errors import BudgetError, RefusedError, RunError, SpaceError
from medsearch.measurement.threads import torch_threads
from medsearch.nas import INTERRUPTED, ProposalStatistics, Search, Store, Trial, front, read_strategy
from medsearch.pipeline.calibration import take_over
from medsearch.pipeline.feasible import measure_costs, require_feasible
from medsearch.pipeline.finalists import compress_best, deliver_all, finalists
from medsearch.pipeline.job import Clock, Job, begin
from medsearch.pipeline.planner import ENDING, MARGIN, Plan, plan, without_clock
from medsearch.pipeline.profile import profiled
from medsearch.pipeline.results import collect, trial_row
from medsearch.pipeline.setup import Setup
from medsearch.pipeline.trainings import evaluation, instead
from medsearch.report.page import write_report
from medsearch.run import Run
from medsearch.train import EVALUATORS
from medsearch.train.workers import default_workers, pool

DEFAULT_SECONDS = 15 * 60.0
LEAVING_SECONDS = 2.0
"""From the report to the end of the last process."""
MOST_FAILURES = 8  # trials that may fail before one ends well


def search(run: Run, setup: Setup, *, callbacks: Sequence[Callback] = (), start: float | None = None) -> dict[str, Any]:
    """Carry out a search in ``run``, from wherever it stands, and return its results (see ``results.json``).

    Args:
        run: where everything is kept, and what was asked.
        setup: what :func:`prepare` made of it.
        callbacks: told how it goes.
        start: when it was asked for, by :func:`time.monotonic`; None means now.

    Raises:
        BudgetError: if nothing fits; before anything is trained, and a new run is removed.
        RunError: if no trial ended well.
        RefusedError: if no trained network kept the budgets when it was measured.
        WriteError: if a file of the run cannot be written; what was finished is kept, and the run can be resumed.
    """
    config = run.config
    if config.time is None and config.trials is None:
        config = replace(config, time=DEFAULT_SECONDS)
    clock = Clock(config.time, run.seconds, time.monotonic() if start is None else start)
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
            take_over(job)
            require_feasible(job)
        except (BudgetError, SpaceError):
            run.discard()
            raise
        planned = _planned(job)
        view.note(f"plan: {planned.sentence()}")
        trials = _search(job, planned)
        if not any(trial.state == "complete" for trial in trials):
            raise _nothing(job, trials)
        chosen, begun = finalists(job, planned, trials), clock.spent
        delivered, refused = deliver_all(job, chosen)
        each = (clock.spent - begun) / len(chosen)
        results = collect(job, trials, delivered, refused)
        if config.compress:
            compress_best(job, results)
        begun = clock.spent
        write_report(results, run.folder)
        run.finish(results)
        run.keep_checkpoints([genotype.id for genotype in chosen])
        job.cost.profile.endings[profiled(setup)] = [each, clock.spent - begun + LEAVING_SECONDS]
        job.keep_timings()
    if not any(network.within_budget for network in delivered):
        reasons = "; ".join(f"{entry['id']} {entry['reason']}" for entry in refused)
        raise RefusedError(str(run.folder), f"no trained network kept the budgets: {reasons}.")
    return results


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
            measure=lambda genotype, names: measure_costs(job, genotype, names),
            limited=lambda genotype: job.fitting(genotype, job.budget),
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
            ending=_ending(job),
            compress=config.compress,
            first=first,
            epochs=epochs,
            networks=config.trials,
            continues=continues,
        )
    job.run.note(plan=found.to_data())
    return found


def _ending(job: Job) -> Sequence[float]:
    """Seconds of one delivery, and of what comes after, as the last search of the kind on this device took."""
    known = job.cost.profile.endings.get(profiled(job.setup))
    return [MARGIN * seconds for seconds in known] if known and len(known) == len(ENDING) else ENDING


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
