"""``medsearch search``: from data, space and budgets to trained, measured, exported networks and a report.

The time given is shared out: measuring the machine, the search, the full training of the finalists, and the checks of
what is delivered.  Trials and trainings run in single-threaded workers.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from medsearch.core.errors import BudgetError, MedsearchError, RefusedError, RunError, WriteError
from medsearch.measure.budget import Budget, Costs, show
from medsearch.measure.calibrate import Accuracy
from medsearch.measure.cost import Conditions, CostModel
from medsearch.measure.device import Profile
from medsearch.report.live import LiveSearch
from medsearch.report.page import write_report
from medsearch.run import Run, Settings
from medsearch.search import INTERRUPTED, STRATEGIES, Search, Store, Tally, Trial, choose, front
from medsearch.spaces import Genotype
from medsearch.train import TrainingError
from medsearch.train.probe import faster_precision, step_seconds
from medsearch.train.workers import Remote, default_workers, pool
from medsearch.verbs.calibration import calibrate_job, exported, middle, samples, take_over
from medsearch.verbs.compress import compress_file
from medsearch.verbs.deliver import Delivered, deliver, epochs_saved, save
from medsearch.verbs.fitting import Fitting
from medsearch.verbs.measured import changing_memory, measure
from medsearch.verbs.results import collect
from medsearch.verbs.setting import Setting, open_profile, with_precision

DEFAULT_SECONDS = 15 * 60.0
SEARCH_SHARE = 0.32
LATEST_SEARCH = 0.6  # of all the time: when a search ends with fewer trials than finalists are wanted
PARALLEL = 1.15  # how much longer a step takes beside the other workers, evaluations included
EVALUATION = 1.25  # an epoch with its evaluation, in epochs of training alone
COMPRESSION_SHARE = 0.25
DELIVERY_SECONDS = 15.0
TRIALS_WANTED = 14
MOST_FAILURES = 8  # trials that may fail before one ends well
EPOCHS_WITHOUT_TIME = 60


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
    """One search being carried out."""

    run: Run
    settings: Settings
    command: str
    setting: Setting
    cost: CostModel
    fitting: Fitting
    budget: Budget
    view: LiveSearch
    clock: Clock
    workers: int

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

    def keep_timings(self) -> None:
        """Save what was timed: in the cache, or in the run where the cache cannot be written, which is said once."""
        profile = self.cost.profile
        try:
            profile.save()
        except WriteError as problem:
            if profile.path == self.run.profile:
                raise
            profile.move(self.run.profile)
            self.view.note(f"{problem.where}: {problem.problem}  Timings are kept in {profile.path} instead.")
            profile.save()


def search(run: Run, settings: Settings, command: str, setting: Setting) -> dict[str, Any]:
    """Carry out a search in ``run``, from wherever it stands, and return its results (see ``results.json``).

    Args:
        run: where everything is kept.
        settings: what was asked.
        command: that began the run.
        setting: what :func:`prepare` made of the settings.

    Raises:
        BudgetError: if nothing fits; before anything is trained, and a new run is removed.
        RunError: if no trial ended well.
        RefusedError: if no trained network kept the budgets when it was measured.
        WriteError: if a file of the run cannot be written; what was finished is kept, and the run can be resumed.
    """
    if settings.seconds is None and settings.trials is None:
        settings = replace(settings, seconds=DEFAULT_SECONDS)
    clock = Clock(settings.seconds, run.seconds, time.monotonic())
    title = f"{setting.data.name}: {setting.data.task} in {setting.space.name}"
    with LiveSearch(title, seconds=settings.seconds, spent=clock.before, resume=run.resume_command) as view:
        _show_earlier(run, setting, view)
        job = _job(run, settings, command, setting, view, clock)
        _measure_machine(job)
        trials = _search(job)
        chosen = choose(trials, settings.finalists, images=len(setting.data.val))
        if not chosen:
            raise _nothing(job, trials)
        finalists = _train(job, [trial.genotype for trial in chosen])
        delivered, refused = _deliver(job, finalists)
        results = collect(job, trials, delivered, refused)
        if settings.compress:
            _compress(job, results)
        write_report(results, run.folder)
        run.finish(results)
    if not any(network.within_budget for network in delivered):
        reasons = "; ".join(f"{entry['id']} {entry['reason']}" for entry in refused)
        raise RefusedError(str(run.folder), f"no trained network kept the budgets: {reasons}.")
    return results


def _job(run: Run, settings: Settings, command: str, setting: Setting, view: LiveSearch, clock: Clock) -> Job:
    profile = open_profile(settings)
    if run.profile.exists():
        profile.move(run.profile)
    if settings.precision is None:
        precision = run.state().get("precision")
        if precision is None:
            view.phase("choosing the precision of training")
            model = setting.network(middle(setting))
            precision = faster_precision(model, setting.data, setting.task, setting.recipe)
            run.note(precision=precision)
        setting = with_precision(setting, precision)
    budget = _budget(settings)
    cost = _cost_model(setting, profile, inference=budget.inference is not None or settings.fit_batch)
    return Job(
        run=run,
        settings=settings,
        command=command,
        setting=setting,
        cost=cost,
        fitting=Fitting(
            cost=cost,
            recipe=setting.recipe,
            limit=budget.memory if settings.fit_batch else None,
            changing=changing_memory(setting.data, setting.recipe) if settings.fit_batch else 0,
            precisions=tuple(dict.fromkeys((setting.recipe.precision, settings.precision or "bf16"))),
        ),
        budget=budget,
        view=view,
        clock=clock,
        workers=settings.workers or default_workers(),
    )


def _budget(settings: Settings) -> Budget:
    return Budget(
        memory=settings.memory_bytes,
        latency=settings.latency_ms,
        parameters=settings.parameters,
        inference=settings.inference_bytes,
        macs=settings.macs,
        file=settings.file_bytes,
    )


def _cost_model(setting: Setting, profile: Profile, *, inference: bool) -> CostModel:
    recipe = setting.recipe
    threads = profile.device["threads"]
    conditions = Conditions(size=setting.data.size, batch=recipe.batch, precision=recipe.precision, threads=threads)
    return CostModel(setting.interface, conditions, profile, loss=setting.task.loss, inference=inference)


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
        tried = (*samples(job), job.setting.space.first())
        if all(job.budget.excess(job.fitting(genotype)) > 0 for genotype in tried):
            job.budget.require_all(lambda goal: _least(job, goal), where=f"space '{job.setting.space.name}'")
    except BudgetError:
        job.keep_timings()
        job.run.discard()
        raise
    job.keep_timings()


def _least(job: Job, goal: Callable[[Costs], float]) -> Costs:
    """The costs of the network of the space where ``goal`` is smallest."""
    return job.fitting(job.setting.space.minimise(lambda genotype: goal(job.fitting(genotype))))


def _settle(job: Job, genotype: Genotype, names: Sequence[str]) -> Costs:
    """The costs of ``genotype``, those called ``names`` measured."""
    setting, limits = job.setting, job.budget.limits()
    found = measure(
        setting.network(genotype),
        setting.data,
        setting.task,
        job.fitting.recipe_of(genotype),
        onnx=lambda: exported(job, genotype),
        milliseconds=job.cost.times.latency,
        names=names,
    )
    said = ", ".join(f"{name} {show(name, one.high)} of {show(name, limits[name])}" for name, one in found.items())
    job.view.note(f"{genotype.id} measured before its trial: {said}")
    return replace(job.fitting(genotype), **found)


def _percent(found: Accuracy) -> str:
    return f"{found.median_error_percent:.1f} % (median), {found.largest_error_percent:.1f} % (largest)"


def _search(job: Job) -> list[Trial]:
    """Trials until the search's share of the time, or the number asked for, is used up."""
    store = Store(job.run.storage, job.setting.space)
    trials = store.trials()
    if _enough(job, [trial for trial in trials if trial.state != "running"]):
        return trials
    with job.phase("searching"), pool(job.setting.data, workers=job.workers) as executor:
        epochs = _epochs_search(job)
        search = Search(
            space=job.setting.space,
            strategy=STRATEGIES.find(job.settings.strategy, where="--strategy")(),
            cost=job.fitting,
            budget=job.budget,
            evaluate=Remote(interface=job.setting.interface, recipe=replace(job.setting.recipe, epochs=epochs)),
            evaluator=(lambda genotype: _short_training(job, genotype, epochs)) if job.settings.fit_batch else None,
            facts=job.fitting.facts,
            settle=lambda genotype, names: _settle(job, genotype, names),
            executor=executor,
            store=store,
            workers=job.workers,
            seed=job.settings.seed,
            tally=Tally(**job.run.state().get("tally", {})),
        )
        for trial in search.run(until=lambda history: _enough(job, history)):
            leading = front(store.trials())
            best = {one.number for one in leading}
            job.view.trial(trial_row(trial, best, epochs))
            job.view.front([trial_row(one, best, epochs) for one in leading])
            job.run.note(tally=search.tally.to_data(), seconds=job.clock.spent)
    job.keep_timings()
    return store.trials()


def _enough(job: Job, trials: Sequence[Trial]) -> bool:
    """Whether no further trial shall begin: those that run are taken to end well until they have not."""
    good = [trial for trial in trials if trial.state != "failed"]
    if job.settings.trials is not None and len(good) >= job.settings.trials:
        return True
    if not good and len(_failures(trials)) >= MOST_FAILURES:
        return True
    return _search_left(job) <= 0 and (len(good) >= job.settings.finalists or job.clock.left(LATEST_SEARCH) <= 0)


def _search_left(job: Job) -> float:
    """Seconds until the search has had its share of the time that was left when it first began."""
    if job.clock.budget is None:
        return math.inf
    end = job.run.state().get("search_end")
    if end is None:
        end = job.clock.spent + SEARCH_SHARE * job.clock.left()
        job.run.note(search_end=end)
    return float(end) - job.clock.spent


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


def _epochs_search(job: Job) -> int:
    """As many epochs a trial as let about ``TRIALS_WANTED`` trials end in the search's time."""
    state = job.run.state()
    if job.settings.epochs_search is not None:
        return job.settings.epochs_search
    if "epochs_search" in state:
        return int(state["epochs_search"])
    setting = job.setting
    steps = [_step_seconds(job, genotype) for genotype in samples(job)[:3]]
    epoch = statistics.median(steps) * math.ceil(len(setting.data.train) / setting.recipe.batch) * EVALUATION
    left = _search_left(job)
    seconds = 40.0 if math.isinf(left) else left * job.workers / TRIALS_WANTED
    epochs = max(2, min(30, round(seconds / epoch)))
    job.run.note(epochs_search=epochs)
    return epochs


def _step_seconds(job: Job, genotype: Genotype) -> float:
    setting = job.setting
    recipe = job.fitting.recipe_of(genotype)
    return step_seconds(setting.network(genotype), setting.data, setting.task, recipe, steps=2)


def trial_row(trial: Trial, on_front: set[int], epochs: int) -> dict[str, Any]:
    """A trial as the reports take it."""
    costs = trial.facts.get("costs", {})
    return {
        "number": trial.number,
        "id": trial.genotype.id,
        "mixers": list(trial.genotype.mixers),
        "parameters": costs["parameters"]["value"],
        "macs": costs["macs"]["value"],
        "latency_ms": costs["latency"]["value"],
        "memory_bytes": costs["memory"]["value"],
        "error": trial.objectives[0] if trial.objectives else None,
        "metrics": trial.metrics,
        "epochs": len(trial.curve) or epochs,
        "state": trial.state,
        "front": trial.number in on_front,
    }


def _show_earlier(run: Run, setting: Setting, view: LiveSearch) -> None:
    """Begin the view with the trials that earlier starts have ended."""
    if not run.has_trials:
        return
    trials = Store(run.storage, setting.space).trials()
    ended = [one for one in trials if one.state != "running" and one.facts.get("reason") != INTERRUPTED]
    leading, epochs = front(ended), int(run.state().get("epochs_search", 0))
    best = {one.number for one in leading}
    view.begin_with(
        [trial_row(one, best, epochs) for one in ended], front=[trial_row(one, best, epochs) for one in leading]
    )


def _train(job: Job, finalists: Sequence[Genotype]) -> list[Genotype]:
    """Train the finalists fully, as many at once as there are workers, and save each as it ends; returns those on disk.

    What an earlier start saved is trained again only where more epochs are planned since, and stays until that ends.
    """
    planned = job.run.state().get("epochs", {})
    if any(genotype.id not in planned for genotype in finalists):  # new, extended, or others are the best since
        possible = _epochs_full(job, finalists)
        planned = {genotype.id: max(possible[genotype.id], epochs_saved(job, genotype)) for genotype in finalists}
        job.run.note(epochs=planned)
    todo = [genotype for genotype in finalists if epochs_saved(job, genotype) < planned[genotype.id]]
    if todo:
        with job.phase("training the finalists"):
            with pool(job.setting.data, workers=job.workers) as executor:
                futures = {
                    executor.submit(_full_training(job, genotype, planned[genotype.id]), genotype): genotype
                    for genotype in todo
                }
                for done, future in enumerate(as_completed(futures), start=1):
                    try:
                        save(job, futures[future], future.result())
                    except TrainingError as problem:
                        job.view.note(f"{futures[future].id}: {problem}")
                    job.view.progress(done, len(futures), "networks trained")
    return [genotype for genotype in finalists if epochs_saved(job, genotype)]


def _short_training(job: Job, genotype: Genotype, epochs: int) -> Remote:
    return Remote(interface=job.setting.interface, recipe=replace(job.fitting.recipe_of(genotype), epochs=epochs))


def _full_training(job: Job, genotype: Genotype, epochs: int) -> Remote:
    recipe = replace(job.fitting.recipe_of(genotype), epochs=epochs)
    every = max(1, epochs // 10)
    return Remote(interface=job.setting.interface, recipe=recipe, evaluate_every=every, keep_model=True)


def _epochs_full(job: Job, genotypes: Sequence[Genotype]) -> dict[str, int]:
    """Epochs of each finalist, the best first: as many as the time that is left allows.

    The best has a worker to itself; the others share the rest of the workers, and train no longer than the best.
    """
    if job.settings.epochs is not None:
        return {genotype.id: job.settings.epochs for genotype in genotypes}
    if job.clock.budget is None:
        return {genotype.id: EPOCHS_WITHOUT_TIME for genotype in genotypes}
    steps = math.ceil(len(job.setting.data.train) / job.setting.recipe.batch)
    seconds = [PARALLEL * steps * _step_seconds(job, genotype) for genotype in genotypes]
    left = job.clock.left(1 - COMPRESSION_SHARE * job.settings.compress) - DELIVERY_SECONDS * len(genotypes)
    if job.workers == 1:
        counts = [left / sum(seconds)] * len(genotypes)
    else:
        most = left / seconds[0]
        others = left * (job.workers - 1) / max(sum(seconds[1:]), 1e-9)
        counts = [most, *(min(most, others, left / each) for each in seconds[1:])]
    return {genotype.id: _whole(count) for genotype, count in zip(genotypes, counts, strict=True)}


def _whole(epochs: float) -> int:
    return max(3, min(300, math.floor(epochs)))


def _deliver(job: Job, finalists: Sequence[Genotype]) -> tuple[list[Delivered], list[dict[str, str]]]:
    """Export and measure what was trained; refuse what is over budget when measured; read the test split once."""
    delivered: list[Delivered] = []
    refused: list[dict[str, str]] = []
    with job.phase("delivering"):
        job.run.note(test_reads=job.run.state().get("test_reads", 0) + 1)
        test = job.setting.data.open_test()
        for genotype in finalists:
            job.view.note(f"exporting and measuring {genotype.id}")
            try:
                network = deliver(job, genotype, test)
            except WriteError:
                raise
            except MedsearchError as problem:
                refused.append({"id": genotype.id, "reason": str(problem)})
                continue
            if network.within_budget:
                delivered.append(network)
            else:
                refused.append({"id": genotype.id, "reason": network.verdict})
    return delivered, refused


def _compress(job: Job, results: dict[str, Any]) -> None:
    """Compress the best delivered network, and note in ``results`` what came of it."""
    best = next((network for network in results["delivered"] if network["best"]), None)
    if best is None:
        return
    with job.phase("compressing the best network"):
        try:
            found = compress_file(job.run.folder / best["folder"] / "model.pt", say=job.view.note)
        except RefusedError as refusal:
            results["remarks"].append(f"compression of {best['id']} was refused: {refusal.problem}")
        else:
            results["compression"] = found
            results["remarks"].append(f"{best['id']} compressed: {found['sentence']}")
