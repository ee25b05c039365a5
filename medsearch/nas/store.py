"""The durable record of a search: an Optuna study, so that Optuna's tools can read it and a killed search goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from medsearch.core.errors import MedsearchError, RunError, WriteError
from medsearch.nas.distributions import recorded
from medsearch.nas.quiet import quiet
from medsearch.nas.strategy import Trial
from medsearch.spaces import Genes, Genotype, Space

FORMAT = 4
"""Of what a study holds.  1, which was not written down: every gene a category; 2: numbers are numbers; 3: the costs
among the objectives are named; 4: trials are complete at their first rung, and what came later stands beside them."""

LATER = "trial"
"""Begins the names of the study's attributes that hold what trials showed at later rungs, as in ``trial 7``."""

INTERRUPTED = "interrupted"
"""The reason noted with a trial that a killed process left running."""

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "failed",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


class Store:
    """Trials on an Optuna storage.

    Args:
        url: of the storage, for example ``sqlite:///runs/one/study.db``.
        space: whose genes the trials have.
        objectives: the costs that are objectives, after the error.
        name: of the study.

    Raises:
        WriteError: here and from every method, where SQLite cannot write the file.
        RunError: likewise, where the file is damaged; and here, where another version wrote it in another form, or
            its trials have other objectives.
    """

    def __init__(self, url: str, space: Space, *, objectives: Sequence[str], name: str = "search") -> None:
        self.space, self._file = space, url.removeprefix("sqlite:///")
        with self._writing():
            self._study = optuna.create_study(
                directions=["minimize"] * (1 + len(objectives)),
                storage=url,
                study_name=name,
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(),
            )
            self._check_format(list(objectives))
        self._recorded = {gene: recorded(options) for gene, options in space.genes().items()}
        self._ended: dict[int, Trial] = {}

    def _check_format(self, objectives: list[str]) -> None:
        if "format" not in self._study.user_attrs and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr("objectives", objectives)
            self._study.set_user_attr("format", FORMAT)
        if (seen := self._study.user_attrs.get("format", 1)) != FORMAT:
            problem = f"holds trials in format {seen} of another version of medsearch; this one has format {FORMAT}."
            remedy = "Begin another run, or go on with this one in the version that began it."
            raise RunError(self._file, problem, remedy)
        if (seen := self._study.user_attrs.get("objectives")) != objectives:
            problem = f"holds trials whose objectives are {seen}, not {objectives}."
            raise RunError(self._file, problem, "Begin another run for other objectives.")

    def begin(self, genotype: Genotype, facts: dict[str, Any], constraints: dict[str, float]) -> int:
        """Note that ``genotype`` is being tried; returns the trial's number.

        Args:
            genotype: of the space.
            facts: plain data kept with the trial.
            constraints: 0 or less where a limit is kept.
        """
        genes = self.space.encode(genotype)
        with self._writing():
            self._study.enqueue_trial(genes, skip_if_exists=False)
            trial = self._study.ask({gene: self._recorded[gene] for gene in genes})
            for name, value in constraints.items():
                trial.set_constraint(name, value)
            trial.set_user_attr("facts", facts)
            trial.set_user_attr("genotype", genotype.to_data())  # last: a trial counts from here on
        return trial.number

    def note(self, number: int, facts: dict[str, Any]) -> None:
        """Add to the facts of a trial that is running."""
        begun = self._stored()[number]
        known = {**begun.user_attrs["facts"], **facts}
        with self._writing():
            self._study._storage.set_trial_user_attr(begun._trial_id, "facts", known)

    def end(
        self,
        number: int,
        *,
        state: str,
        objectives: tuple[float, ...] | None = None,
        metrics: dict[str, float] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Note how the first rung of trial ``number`` ended: ``complete`` or ``failed``."""
        begun = self._stored()[number]
        storage, key = self._study._storage, begun._trial_id
        with self._writing():
            for name, value in (("metrics", metrics or {}), ("objectives", objectives)):
                storage.set_trial_user_attr(key, name, value)
            if facts:
                storage.set_trial_user_attr(key, "facts", {**begun.user_attrs["facts"], **facts})
            if state == "complete":
                self._study.tell(number, list(objectives or ()))
            else:
                self._study.tell(number, state=TrialState.FAIL)

    def reach(self, number: int, curve: Sequence[float], metrics: dict[str, float], facts: dict[str, Any]) -> None:
        """Note what trial ``number`` showed at a later rung.

        Optuna's trials do not change once they are complete, so this stands among the attributes of the study; the
        values that Optuna knows are those of the first rung, where all trials were trained alike.

        Args:
            number: of a complete trial.
            curve: its error at every rung so far, the first one included.
            metrics: at the last of them.
            facts: to add to those that are known.
        """
        known = self._later().get(number, {})
        found = {"curve": list(curve), "metrics": metrics, "facts": {**known.get("facts", {}), **facts}}
        with self._writing():
            self._study.set_user_attr(f"{LATER} {number}", found)
        self._ended.pop(number, None)

    def _later(self) -> dict[int, dict[str, Any]]:
        """What trials showed at later rungs, by number."""
        with self._writing():
            noted = self._study.user_attrs
        return {int(key.split()[1]): found for key, found in noted.items() if key.startswith(f"{LATER} ")}

    def trials(self) -> list[Trial]:
        """All trials, in the order they began."""
        return self._read([trial for trial in self._stored() if "genotype" in trial.user_attrs])

    def trial(self, number: int) -> Trial:
        """The trial with this number."""
        return self._read([self._stored()[number]])[0]

    def recover(self) -> list[Genotype]:
        """Close the trials that a killed process left running; returns their genotypes, to be tried again."""
        left = [trial for trial in self._stored() if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
        storage, found = self._study._storage, [self._new(trial) for trial in left if "genotype" in trial.user_attrs]
        with self._writing():
            for trial in left:
                facts = {**trial.user_attrs.get("facts", {}), "reason": INTERRUPTED}
                storage.set_trial_user_attr(trial._trial_id, "facts", facts)
                storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return [trial.genotype for trial in found]

    def _stored(self) -> list[FrozenTrial]:
        """All trials as Optuna has them, by number; to be read only."""
        with self._writing():
            return self._study.get_trials(deepcopy=False)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say which file it is that SQLite cannot use, whatever Optuna and SQLAlchemy have wrapped its error in."""
        try:
            with quiet():
                yield
        except Exception as problem:
            reason = _of_sqlite(problem)
            if reason is None:
                raise
            raise _unusable(self._file, str(reason)) from problem

    def _read(self, trials: Sequence[FrozenTrial]) -> list[Trial]:
        """Trials in our own terms; those that have ended are read once, until they reach another rung."""
        unread = [trial for trial in trials if trial.state.is_finished() and trial.number not in self._ended]
        later = self._later() if unread else {}
        self._ended |= {trial.number: self._new(trial, later.get(trial.number)) for trial in unread}
        return [self._ended[trial.number] if trial.state.is_finished() else self._new(trial) for trial in trials]

    def _new(self, trial: FrozenTrial, later: Mapping[str, Any] | None = None) -> Trial:
        noted = trial.user_attrs
        try:
            genotype = Genotype.from_data(noted["genotype"], f"trial {trial.number}")
            genes: Genes = self.space.encode(genotype)
        except MedsearchError as problem:
            raise RunError("study", f"trial {trial.number} is not of space '{self.space.name}': {problem}") from problem
        state, later = _STATES[trial.state], later or {}
        objectives = tuple(noted.get("objectives") or ()) if state == "complete" else ()
        curve = tuple(later.get("curve", objectives[:1]))
        return Trial(
            number=trial.number,
            genes=genes,
            genotype=genotype,
            objectives=(curve[-1], *objectives[1:]) if objectives else None,
            metrics=later.get("metrics", noted.get("metrics", {})),
            curve=curve,
            state=state,
            facts={**noted.get("facts", {}), **later.get("facts", {})},
        )


def _unusable(file: str, reason: str) -> RunError:
    """What to say of a study that SQLite cannot use, by SQLite's own words."""
    if "disk is full" in reason:
        return WriteError(file, f"cannot be written: {reason}.", "Free some space there.")
    if any(words in reason for words in ("readonly", "unable to open", "disk I/O")):
        return WriteError(file, f"cannot be written: {reason}.", "Make room there, and its folder writable.")
    return RunError(file, f"cannot be used: {reason}.", "It was damaged, or another program is at it.")


def _of_sqlite(problem: BaseException | None) -> sqlite3.Error | None:
    """The error of SQLite that another one was raised from."""
    while problem is not None and not isinstance(problem, sqlite3.Error):
        problem = problem.__cause__ or problem.__context__
    return problem
