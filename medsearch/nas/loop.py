"""The search itself: propose, make it fit, try it, write it down, again - on as many workers as there are."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from medsearch.core.errors import MedsearchError
from medsearch.measurement.budget import Budget, Costs
from medsearch.nas.initial_designs import initial_designs
from medsearch.nas.rungs import goes_on
from medsearch.nas.store import INTERRUPTED, Store
from medsearch.nas.strategy import Strategy, Trial
from medsearch.spaces import Genotype, Space

ATTEMPTS = 30
"""Proposals drawn for one trial before the search gives up on finding a new network that fits."""

DOUBTS = 4
"""Networks measured for one trial because their prediction leaves open whether they fit; then only safe ones count."""


SPENT = ("seconds", "training_seconds", "epochs")
"""What a training has taken so far, by the attributes of its evaluation."""


class Evaluation(Protocol):
    """What trying a genotype showed.

    ``error`` and ``metrics`` are of the validation split, smaller errors are better; ``seconds``,
    ``training_seconds`` (of steps alone) and ``epochs`` those
    of its training so far.
    """

    @property
    def error(self) -> float: ...

    @property
    def metrics(self) -> dict[str, float]: ...

    @property
    def seconds(self) -> float: ...

    @property
    def training_seconds(self) -> float: ...

    @property
    def epochs(self) -> float: ...


class Measure(Protocol):
    """Measures the costs called ``names`` of a genotype; returns all its costs, the measured ones without doubt."""

    def __call__(self, genotype: Genotype, names: Sequence[str]) -> Costs: ...


class Executor(Protocol):
    """Runs evaluations elsewhere, as :class:`concurrent.futures.Executor` does."""

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


class Evaluator(Protocol):
    """Tries a genotype; may run in another process."""

    def __call__(self, genotype: Genotype) -> Evaluation: ...


@dataclass
class ProposalStatistics:
    """How proposals fared before they became trials."""

    drawn: int = 0
    repaired: int = 0
    resampled: int = 0

    def to_data(self) -> dict[str, int]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(kw_only=True)
class Search:
    """A search of one space under one budget.

    Args:
        space: where to search.
        strategy: proposes.
        cost: predicts costs; nothing is built for it.
        budget: limits; no genotype over one becomes a trial.
        limited: predicts those costs alone that the budget limits, for the many genotypes that are only looked at;
            None asks ``cost``.
        objectives: the costs to be small beside the error.
        executor: runs evaluations.
        workers: how many evaluations run at once.
        store: keeps the trials.
        evaluate: tries a genotype; handed to ``executor``.
        seed: with one worker, the same seed and evaluator give the same trials.
        evaluator: the evaluator of one genotype for one rung, from 0, in place of ``evaluate``.
        rungs: how often a trial can be trained further; see :mod:`medsearch.nas.rungs`.
        facts: plain data to keep with a trial beside its costs.
        measure: measures what the prediction leaves open; without it only what fits for sure becomes a trial, and
            every objective has to be predicted.
        failed: told what an evaluation raised, and how often this trial has failed before; returns what is tried
            instead, after which ``evaluator`` and ``cost`` are asked anew, or None to give the trial up.
    """

    space: Space
    strategy: Strategy
    cost: Callable[[Genotype], Costs]
    budget: Budget
    objectives: Sequence[str]
    executor: Executor
    store: Store
    evaluate: Evaluator | None = None
    workers: int = 1
    seed: int = 0
    evaluator: Callable[[Genotype, int], Evaluator] | None = None
    rungs: int = 1
    facts: Callable[[Genotype], dict[str, Any]] | None = None
    measure: Measure | None = None
    failed: Callable[[Genotype, BaseException, int], str | None] | None = None
    limited: Callable[[Genotype], Costs] | None = None
    proposals: ProposalStatistics = field(default_factory=ProposalStatistics)
    _failures: Counter[int] = field(default_factory=Counter, init=False, repr=False)
    _measured_costs: dict[Genotype, Costs] = field(default_factory=dict, init=False, repr=False)

    def run(
        self,
        *,
        until: Callable[[Sequence[Trial]], bool] = lambda trials: False,
        full: Callable[[Sequence[Trial]], bool] = lambda trials: False,
    ) -> Iterator[Trial]:
        """Begin trials, and let the best of them go on.  Yields each whenever it has reached a rung or failed.

        Args:
            until: told of all trials, whether nothing more shall begin.
            full: whether no other trial shall begin; those that are there still go on.
        """
        queue = self.store.recover()
        first = list(initial_designs(self.space))
        running: dict[Future[Evaluation], int] = {}
        try:
            while True:
                while len(running) < self.workers and not until(history := self.store.trials()):
                    begun = self._go_on(history, running.values())
                    if begun is None and not full(history):
                        begun = self._begin(history, queue, first)
                    if begun is None:
                        break
                    number, future = begun
                    running[future] = number
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    number = running.pop(future)
                    if another := self._again(number, future):
                        running[another] = number
                        continue
                    self._end(number, future)
                    yield self.store.trial(number)
        finally:
            for future in running:
                future.cancel()

    def costs(self, genotype: Genotype) -> Costs:
        """What is known of a genotype: measured where a prediction left open whether it fits, else predicted."""
        return self._measured_costs.get(genotype) or self.cost(genotype)

    def violation(self, genotype: Genotype) -> float:
        """By how much the upper bound is over budget, as a share; 0 or less fits."""
        return self.budget.violation(self._measured_costs.get(genotype) or self._limited(genotype))

    def _violation_at_best(self, genotype: Genotype) -> float:
        """The same by the lower bound, where nothing was measured yet."""
        if genotype in self._measured_costs:
            return self.violation(genotype)
        return self.budget.violation_at_best(self._limited(genotype))

    def _limited(self, genotype: Genotype) -> Costs:
        return self.limited(genotype) if self.limited else self.cost(genotype)

    def _fitting(self, proposal: Genotype, seen: Collection[Genotype], rng: random.Random) -> Genotype | None:
        """The proposal or a neighbour that fits; what may fit is measured before it counts."""
        for _ in range(DOUBTS if self.measure else 0):
            found = self.space.repair(proposal, self._violation_at_best, rng)
            if found is None or found in seen or self._fits(found):
                return found
            proposal = found
        found = self.space.repair(proposal, self.violation, rng)
        return found if found is None or found in seen or self._fits(found) else None

    def _fits(self, genotype: Genotype) -> bool:
        """Whether every limit is kept and every objective known; measured where the prediction leaves it open."""
        if self.measure and genotype not in self._measured_costs and self._violation_at_best(genotype) <= 0:
            open_ = dict.fromkeys([*self.budget.doubtful(self._limited(genotype)), *self._unknown(self.cost(genotype))])
            if open_:
                self._measured_costs[genotype] = self.measure(genotype, list(open_))
        if self.violation(genotype) > 0:
            return False
        costs = self.costs(genotype)
        return not costs.impossible and not self._unknown(costs)

    def _unknown(self, costs: Costs) -> list[str]:
        """The objectives of which nothing is known."""
        return [name for name in self.objectives if name not in costs]

    def _next(self, history: Sequence[Trial], queue: list[Genotype], first: Sequence[Genotype]) -> Genotype | None:
        history = [
            trial for trial in history if trial.facts.get("reason") != INTERRUPTED
        ]  # as if it had not been killed
        seen = {trial.genotype for trial in history}
        while queue:
            left = queue.pop(0)
            if left not in seen and self._fits(left):
                return left
        for attempt in range(ATTEMPTS):
            seed = hash((self.seed, len(history), attempt)) & 0x7FFFFFFF
            rng = random.Random(seed)
            self.proposals.drawn += 1
            if attempt == 0 and len(seen) < len(first):
                proposal = first[len(seen)]
            else:
                proposal = self.strategy(self.space, [at_first_rung(trial) for trial in history], seed)
            if proposal in seen:
                proposal = self.space.mutate(proposal, rng)
            fitting = self._fitting(proposal, seen, rng)
            if fitting is not None and fitting not in seen:
                self.proposals.repaired += fitting != proposal
                return fitting
            self.proposals.resampled += 1
        return None

    def _go_on(self, history: Sequence[Trial], busy: Collection[int]) -> tuple[int, Future[Evaluation]] | None:
        """The trial that has earned its next rung, on its way there."""
        able = [trial for trial in history if trial.objectives is not None]
        stuck = [trial.number for trial in able if "stuck" in trial.facts]
        found = goes_on(able, rungs=self.rungs, busy={*busy, *stuck})
        return None if found is None else (found.number, self._submit(found.genotype, len(found.curve)))

    def _again(self, number: int, future: Future[Evaluation]) -> Future[Evaluation] | None:
        """Another evaluation of a trial whose last one raised something, if there is another way to try it."""
        problem = future.exception()
        if problem is None or self.failed is None:
            return None
        trial = self.store.trial(number)
        instead = self.failed(trial.genotype, problem, self._failures[number])
        self._failures[number] += 1
        if instead is None:
            return None
        if trial.state == "running":
            measured = self._measured_costs.pop(trial.genotype, Costs())
            costs = measured | self.cost(trial.genotype)
            self.store.note(number, {**self._noted(trial.genotype, costs), "tried_again": instead})
        return self._submit(trial.genotype, len(trial.curve))

    def _submit(self, genotype: Genotype, rung: int) -> Future[Evaluation]:
        evaluate = self.evaluator(genotype, rung) if self.evaluator else self.evaluate
        assert evaluate is not None
        return self.executor.submit(evaluate, genotype)

    def _begin(
        self, history: Sequence[Trial], queue: list[Genotype], first: Sequence[Genotype]
    ) -> tuple[int, Future[Evaluation]] | None:
        """A new trial, if something new fits."""
        genotype = self._next(history, queue, first)
        if genotype is None:
            return None
        costs = self.costs(genotype)
        constraints = {name: costs.high(name) / limit - 1 for name, limit in self.budget.items()}
        assert all(value <= 0 for value in constraints.values())
        number = self.store.begin(genotype, self._noted(genotype, costs), constraints)
        return number, self._submit(genotype, 0)

    def _noted(self, genotype: Genotype, costs: Costs) -> dict[str, Any]:
        """What is kept with a trial: its costs, the objectives first, and other facts."""
        ordered = Costs(**{name: costs[name] for name in dict.fromkeys((*self.objectives, *costs))})
        return {"costs": ordered.to_data(), **(self.facts(genotype) if self.facts else {})}

    def _end(self, number: int, future: Future[Evaluation]) -> None:
        """Write down what a rung showed; a trial that fails on its way to a later one keeps what it had."""
        trial = self.store.trial(number)
        problem = future.exception()
        if problem is None and not math.isfinite(future.result().error):
            problem = ValueError(f"its error is {future.result().error}")
        if problem is not None:
            if not isinstance(problem, Exception):
                raise problem
            if trial.state == "running":
                self.store.end(number, state="failed", facts={"reason": reason(problem)})
            else:
                self.store.reach(number, trial.curve, trial.metrics, {"stuck": reason(problem)})
            return
        result = future.result()
        facts = {name: getattr(result, name) for name in SPENT}
        if trial.state == "running":
            costs = trial.facts["costs"]
            objectives = (result.error, *(costs[name]["value"] for name in self.objectives))
            self.store.end(number, state="complete", objectives=objectives, metrics=result.metrics, facts=facts)
        else:
            self.store.reach(number, (*trial.curve, result.error), result.metrics, facts)


def at_first_rung(trial: Trial) -> Trial:
    """The trial as it stood where all can be compared: strategies learn from errors after the same training."""
    if trial.objectives is None or not trial.curve:
        return trial
    return replace(trial, objectives=(trial.curve[0], *trial.objectives[1:]))


def reason(problem: Exception) -> str:
    """Why a trial failed: our own message, or what was raised, and where if that is known."""
    if isinstance(problem, MedsearchError):
        return str(problem)
    at = "".join(f", at {note}" for note in getattr(problem, "__notes__", ()) if note)
    return f"{type(problem).__name__}: {problem}{at}"
