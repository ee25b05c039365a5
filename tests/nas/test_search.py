"""The search itself, on a toy: what becomes a trial, what is written down, when it stops, and how it goes on."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from medsearch.core.children import ChildDied
from medsearch.core.errors import MedsearchError
from medsearch.measurement.budget import Budget, Costs
from medsearch.measurement.estimate import Estimate
from medsearch.nas import INTERRUPTED, STRATEGIES, ProposalStatistics, Store, Trial
from medsearch.nas.initial_designs import initial_designs
from medsearch.spaces import Genotype, Space

OBJECTIVES = ("latency", "memory")
Make = Callable[..., Any]


def until(count: int) -> Callable[[Sequence[Trial]], bool]:
    return lambda history: len(history) >= count


def never(history: Sequence[Trial]) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Always:
    """Proposes one genotype, whatever happens."""

    genotype: Genotype

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        return self.genotype


def widths(trial: Trial) -> int:
    return sum(stage.dim for stage in trial.genotype.stages)


def largest(space: Space) -> Genotype:
    return space.decode({**space.encode(space.first()), "stages.0.dim": 32, "stages.1.dim": 32})


@pytest.mark.parametrize(
    ("budget", "channels"),
    [
        (Budget(parameters=40_000), 40),
        (Budget(memory=24e6), 24),
        (Budget(latency=24.0), 16),  # 24 channels take up to 26.4 ms, 16 take up to 17.6
        (Budget(latency=60.0, memory=48e6, parameters=40_000), 40),
    ],
)
def test_no_trial_is_over_budget(search: Make, budget: Budget, channels: int) -> None:
    found = search(budget=budget)
    trials = list(found.run(until=until(12)))
    assert len(trials) == 12
    assert max(map(widths, trials)) == channels
    assert all(budget.over(found.cost(trial.genotype)) == [] for trial in trials)
    study = optuna.load_study(study_name="search", storage=found.store._study._storage)
    assert all(set(kept.constraints) == set(budget) for kept in study.trials)
    assert all(value <= 0 for kept in study.trials for value in kept.constraints.values())


def test_what_does_not_fit_is_repaired_by_few_changes_and_counted(search: Make, a_space: Make) -> None:
    """32 + 32 channels against 48: one change is enough."""
    space = a_space(stages=[{"dim": {"choice": [8, 16, 32]}, "mixer": "dwconv", "channel": "mlp"}] * 2)
    found = search(space=space, strategy=Always(genotype=largest(space)), budget=Budget(parameters=48_000))
    (trial,) = found.run(until=until(1))
    assert 32 in (stage.dim for stage in trial.genotype.stages)
    assert widths(trial) <= 48
    assert found.proposals == ProposalStatistics(drawn=1, repaired=1, resampled=0)
    assert found.proposals.to_data() == {"drawn": 1, "repaired": 1, "resampled": 0}


def test_what_fits_is_tried_as_proposed(search: Make, space: Space) -> None:
    found = search(strategy=Always(genotype=largest(space)))
    first = list(initial_designs(space))
    trials = list(found.run(until=until(len(first) + 1)))
    assert [trial.genotype for trial in trials] == [*first, largest(space)]
    assert found.proposals == ProposalStatistics(drawn=len(trials), repaired=0, resampled=0)


def test_a_budget_that_nothing_fits_gives_no_trial(search: Make) -> None:
    found = search(budget=Budget(parameters=1))
    assert list(found.run(until=never)) == []
    assert found.store.trials() == []
    assert found.proposals.resampled == found.proposals.drawn == 30


def test_trials_come_in_order_with_all_that_is_known(search: Make, score: Make) -> None:
    found = search()
    trials = list(found.run(until=until(5)))
    assert trials == found.store.trials()
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    for trial in trials:
        result, costs = score(trial.genotype), found.cost(trial.genotype)
        assert trial.state == "complete"
        assert trial.objectives == (result.error, costs["latency"].value, costs["memory"].value)
        assert (trial.metrics, trial.curve) == (result.metrics, (result.error,))
        assert trial.facts == {"costs": costs.to_data(), "seconds": 1.0, "training_seconds": 1.0, "epochs": 2.0}
        assert trial.genes == found.space.encode(trial.genotype)


def test_nothing_is_tried_twice_and_an_exhausted_space_ends_the_search(search: Make, a_space: Make) -> None:
    """Two widths and three mixers: six networks."""
    mixers = {"choice": ["dwconv", "linear_attention", "block_gmlp"]}
    space = a_space(stages=[{"dim": {"choice": [8, 16]}, "mixer": mixers, "channel": "mlp"}])
    trials = list(search(space=space).run(until=never))
    assert len({trial.genotype for trial in trials}) == len(trials) == space.size() == 6


def test_a_strategy_that_repeats_itself_gets_a_neighbour(search: Make, space: Space) -> None:
    trials = list(search(strategy=Always(genotype=space.first())).run(until=until(10)))
    assert len({trial.genotype for trial in trials}) == 10


def test_a_space_of_one_network_is_tried_once(search: Make, a_space: Make) -> None:
    space = a_space(stages=[{"dim": 8, "mixer": "dwconv", "channel": "mlp"}])
    assert [trial.genotype for trial in search(space=space).run(until=never)] == [space.first()]


def test_until_is_asked_before_every_trial(search: Make) -> None:
    asked: list[int] = []

    def enough(history: Sequence[Trial]) -> bool:
        asked.append(len(history))
        return len(history) == 3

    assert len(list(search().run(until=enough))) == 3
    assert asked == [0, 1, 2, 3]


def test_a_search_that_is_done_does_nothing(search: Make) -> None:
    assert list(search().run(until=lambda history: True)) == []


def test_the_same_seed_gives_the_same_trials(tmp_path: Path, search: Make) -> None:
    def tried(name: str, seed: int) -> list[Genotype]:
        found = search(seed=seed)
        fresh = replace(found, store=Store(f"sqlite:///{tmp_path / name}", found.space, objectives=OBJECTIVES))
        return [trial.genotype for trial in fresh.run(until=until(8))]

    assert tried("a.db", 1) == tried("b.db", 1)
    assert tried("c.db", 2) != tried("a2.db", 1)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_run_side_by_side_and_nothing_is_lost(search: Make, workers: int) -> None:
    with ThreadPoolExecutor(workers) as executor:
        found = search(executor=executor, workers=workers)
        running: list[int] = []
        trials = []
        for trial in found.run(until=until(9)):
            trials.append(trial)
            running.append(sum(one.state == "running" for one in found.store.trials()))
    assert sorted(trial.number for trial in trials) == list(range(9))
    assert len({trial.genotype for trial in trials}) == 9
    assert max(running) < workers
    assert {trial.state for trial in found.store.trials()} == {"complete"}


def test_a_failed_trial_is_noted_and_not_tried_again(search: Make, space: Space, score: Make) -> None:
    def evaluate(genotype: Genotype) -> Any:
        if genotype.mixers[0] == "linear_attention":
            raise MedsearchError("training", "the loss of epoch 1 is nan.", "Lower the learning rate.")
        return score(genotype)

    trials = list(search(evaluate=evaluate).run(until=until(20)))
    failed = [trial for trial in trials if trial.state == "failed"]
    assert {trial.genotype.mixers[0] for trial in failed} == {"linear_attention"}
    assert {trial.genotype.mixers[0] for trial in trials if trial.state == "complete"} == {"dwconv", "block_gmlp"}
    assert all(trial.objectives is None and "the loss of epoch 1 is nan" in trial.facts["reason"] for trial in failed)
    assert len({trial.genotype for trial in trials}) == 20
    assert [trial.genotype for trial in trials][: len(list(initial_designs(space)))] == list(initial_designs(space))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_error_that_is_not_a_number_is_a_failed_trial(search: Make, score: Make, value: float) -> None:
    def evaluate(genotype: Genotype) -> Any:
        return replace(score(genotype), error=value)

    (trial,) = search(evaluate=evaluate).run(until=until(1))
    assert (trial.state, trial.objectives) == ("failed", None)
    assert trial.facts["reason"] == f"ValueError: its error is {value}"


@dataclass(kw_only=True)
class Further:
    """Trains further at every rung: the error of the toy, less at each one."""

    score: Callable[[Genotype], Any]
    calls: list[tuple[Genotype, int]] = field(default_factory=list)

    def __call__(self, genotype: Genotype, rung: int) -> Callable[[Genotype], Any]:
        def evaluate(same: Genotype) -> Any:
            assert same == genotype
            self.calls.append((genotype, rung))
            found = self.score(genotype)
            error = found.error * (1 - 0.25 * rung)
            return replace(found, error=error, epochs=3.0**rung, metrics={"accuracy": 1 - error})

        return evaluate


def whole(found: Any, count: int) -> list[Trial]:
    """Run a search to ``count`` trials that are not cut off, and what they earn."""

    def full(history: Sequence[Trial]) -> bool:
        return len([trial for trial in history if trial.facts.get("reason") != INTERRUPTED]) >= count

    return list(found.run(full=full))


def test_one_in_three_goes_on_as_soon_as_it_has_earned_it(search: Make, space: Space, score: Make) -> None:
    """Seven trials of which each is better than the one before, and of equal cost.

    Of three, the third goes on; then every new one is the best, so it goes on at once, and from the fifth on, which is
    the third at the second rung, to the third rung as well.
    """
    errors: dict[Genotype, float] = {}

    def better_each_time(genotype: Genotype) -> Any:
        return replace(score(genotype), error=errors.setdefault(genotype, 0.5 - 0.04 * len(errors)))

    def same(genotype: Genotype) -> Costs:
        return Costs(latency=Estimate.exact(1, "ms"), memory=Estimate.exact(1, "bytes"))

    further = Further(score=better_each_time)
    found = search(evaluator=further, rungs=3, cost=same)
    yielded = whole(found, 7)
    numbers = {trial.genotype: trial.number for trial in found.store.trials()}
    reached = [(numbers[genotype], rung) for genotype, rung in further.calls]
    begun = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)]
    assert reached == [*begun, (5, 0), (5, 1), (5, 2), (6, 0), (6, 1), (6, 2)]
    assert [(trial.number, len(trial.curve) - 1) for trial in yielded] == reached
    last = found.store.trial(6)
    assert last.curve == pytest.approx((0.26, 0.195, 0.13))
    assert last.objectives == (last.curve[-1], 1, 1)
    assert (last.facts["epochs"], last.metrics) == (9.0, {"accuracy": 1 - last.curve[-1]})


def test_a_search_without_rungs_trains_everything_once(search: Make, score: Make) -> None:
    further = Further(score=score)
    whole(search(evaluator=further), 12)
    assert [rung for _, rung in further.calls] == [0] * 12


def test_those_that_are_there_go_on_where_no_other_may_begin_and_nothing_does_after_the_end(
    search: Make, score: Make
) -> None:
    """Of five trials the best of the first three went on, and after them one that is better still."""
    further = Further(score=score)
    found = search(evaluator=further, rungs=2)
    list(found.run(until=lambda history: len(history) >= 5))
    before = len(further.calls)
    list(found.run(full=lambda history: True))
    assert {rung for _, rung in further.calls[before:]} <= {1}
    assert [len(trial.curve) for trial in found.store.trials()].count(2) == 2
    done = len(further.calls)
    list(found.run(until=lambda history: True))
    assert len(further.calls) == done


def test_strategies_learn_from_the_first_rung(search: Make, space: Space, score: Make) -> None:
    seen: list[Sequence[Trial]] = []

    def propose(space: Space, history: Sequence[Trial], seed: int) -> Genotype:
        seen.append(history)
        return STRATEGIES["random"]()(space, history, seed)

    found = search(evaluator=Further(score=score), rungs=3, strategy=propose)
    whole(found, 12)
    assert any(len(trial.curve) > 1 for trial in seen[-1])
    assert all(trial.objectives is not None and trial.objectives[0] == trial.curve[0] for trial in seen[-1])


@pytest.mark.parametrize("resumed", [False, True])
def test_what_fails_on_its_way_to_a_later_rung_keeps_what_it_had_and_stays_there(
    search: Make, score: Make, resumed: bool
) -> None:
    stuck: list[Genotype] = []

    def evaluator(genotype: Genotype, rung: int) -> Callable[[Genotype], Any]:
        def evaluate(same: Genotype) -> Any:
            if rung and not stuck:
                stuck.append(genotype)
            if rung and genotype == stuck[0]:
                tries.append(genotype)
                raise MedsearchError("training", "the loss is nan.")
            return score(genotype)

        return evaluate

    tries: list[Genotype] = []
    found = search(evaluator=evaluator, rungs=3)
    whole(found, 6 if resumed else 20)
    if resumed:
        found = search(evaluator=evaluator, rungs=3)
        whole(found, 20)
    (trial,) = [trial for trial in found.store.trials() if trial.genotype == stuck[0]]
    assert tries == [trial.genotype]
    assert (trial.state, trial.curve) == ("complete", (score(trial.genotype).error,))
    assert trial.objectives is not None and trial.objectives[0] == score(trial.genotype).error
    assert trial.metrics == score(trial.genotype).metrics
    assert (trial.facts["stuck"], trial.facts["epochs"]) == ("training: the loss is nan.", 2.0)
    assert any(len(other.curve) > 1 for other in found.store.trials())


def test_a_training_that_died_on_its_way_to_a_later_rung_is_tried_again_as_told(search: Make, score: Make) -> None:
    dead: list[Genotype] = []

    def evaluator(genotype: Genotype, rung: int) -> Callable[[Genotype], Any]:
        def evaluate(same: Genotype) -> Any:
            if rung and genotype not in dead:
                dead.append(genotype)
                raise ChildDied("training", "SIGFPE")
            return score(genotype)

        return evaluate

    found = search(evaluator=evaluator, rungs=2, failed=lambda genotype, problem, before: None if before else "again")
    trials = whole(found, 9)
    assert {trial.state for trial in trials} == {"complete"}
    assert len(dead) >= 3
    assert {trial.genotype for trial in trials if len(trial.curve) == 2} == set(dead)


def facts_of(trials: Sequence[Trial]) -> list[Any]:
    """What trials are, their numbers aside, without those that were cut off."""
    left = [trial for trial in trials if trial.facts.get("reason") != INTERRUPTED]
    return [(trial.genotype, trial.curve, trial.objectives, trial.metrics, trial.facts) for trial in left]


def test_a_search_cut_off_at_any_evaluation_ends_as_one_that_is_not(tmp_path: Path, search: Make, score: Make) -> None:
    """Seven trials and all that they earn, gone on with from what is on disk as each of these evaluations begins."""

    def begun(name: str, further: Further) -> Any:
        made = search(evaluator=further, rungs=2, strategy=STRATEGIES["evolution"](startup_trials=2))
        return replace(made, store=Store(f"sqlite:///{tmp_path / name}.db", made.space, objectives=OBJECTIVES))

    class Copied(Further):
        """Copies the study as an evaluation begins."""

        def __call__(self, genotype: Genotype, rung: int) -> Callable[[Genotype], Any]:
            shutil.copy(tmp_path / "whole.db", tmp_path / f"{len(self.calls)}.db")
            return super().__call__(genotype, rung)

    undisturbed = Copied(score=score)
    found = begun("whole", undisturbed)
    whole(found, 7)
    wanted, calls = facts_of(found.store.trials()), undisturbed.calls
    assert sum(rung > 0 for _, rung in calls) >= 2
    for done in range(len(calls)):
        further = Further(score=score)
        resumed = begun(str(done), further)
        whole(resumed, 7)
        assert facts_of(resumed.store.trials()) == wanted
        assert further.calls == calls[done:]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import evaluate, make_search

calls = []

def dies(genotype):
    calls.append(genotype)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(genotype)

list(make_search(Path(sys.argv[2]), evaluate=dies).run(until=lambda history: False))
"""


def killed(folder: Path) -> None:
    """Run a search in ``folder`` in another process, which kills itself in its fourth trial."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path: Path, search: Make) -> None:
    killed(tmp_path)
    found = search()
    before = found.store.trials()
    assert [trial.state for trial in before] == ["complete"] * 3 + ["running"]
    trials = list(found.run(until=until(8)))
    assert [trial.number for trial in trials] == [4, 5, 6, 7]
    after = found.store.trials()
    assert after[:3] == before[:3]
    assert (after[3].state, after[3].objectives, after[3].facts["reason"]) == ("failed", None, INTERRUPTED)
    assert after[4].genotype == after[3].genotype
    assert len({trial.genotype for trial in after}) == 7

    (tmp_path / "whole").mkdir()
    whole = replace(
        found,
        store=Store(f"sqlite:///{tmp_path / 'whole' / 'study.db'}", found.space, objectives=OBJECTIVES),
        proposals=ProposalStatistics(),
    )
    uninterrupted = [trial.genotype for trial in whole.run(until=until(6))]
    assert [trial.genotype for trial in (*before[:3], *trials)][:4] == uninterrupted[:4]


def test_two_kills_lose_nothing(tmp_path: Path, search: Make) -> None:
    killed(tmp_path)
    killed(tmp_path)
    found = search()
    trials = list(found.run(until=until(9)))
    states = [trial.state for trial in found.store.trials()]
    assert states == ["complete"] * 3 + ["failed"] + ["complete"] * 3 + ["failed", "complete"]
    assert [trial.number for trial in trials] == [8]
    assert len({trial.genotype for trial in found.store.trials()}) == 7


def test_what_no_longer_fits_is_not_tried_again(tmp_path: Path, search: Make, cost: Make) -> None:
    """What was left running is said to cost twice as much by now, and only the smallest networks fit."""
    killed(tmp_path)
    left = search().store.trials()[3].genotype
    twice = Costs(parameters=Estimate.exact(2 * cost(left)["parameters"].value, "parameters"))
    found = search(
        budget=Budget(parameters=16_000),
        cost=lambda genotype: cost(genotype) | twice if genotype == left else cost(genotype),
    )
    trials = list(found.run(until=until(6)))
    assert left not in {trial.genotype for trial in trials}
    assert [widths(trial) for trial in trials] == [16, 16]


def test_whatever_a_trial_raises_makes_a_failed_trial_with_its_reason(search: Make) -> None:
    def evaluate_badly(genotype: Genotype) -> Any:
        raise ZeroDivisionError("by nothing")

    found = search(evaluate=evaluate_badly)
    trials = list(found.run(until=lambda history: len(history) >= 2))
    assert [trial.state for trial in trials] == ["failed"] * 2
    assert {trial.facts["reason"] for trial in trials} == {"ZeroDivisionError: by nothing"}


def test_a_trial_that_died_is_tried_again_as_told_with_the_costs_of_then(search: Make, score: Make, cost: Make) -> None:
    """Its costs double where it is tried again, as those of another precision do; the trial keeps its number."""
    dead: set[Genotype] = set()
    heard: list[tuple[str, int]] = []

    def die_once(genotype: Genotype) -> Any:
        if genotype not in dead:
            raise ChildDied("training", "SIGFPE")
        return score(genotype)

    def instead(genotype: Genotype, problem: BaseException, before: int) -> str | None:
        heard.append((str(problem), before))
        dead.add(genotype)
        return None if before else "in 32 bits"

    def costs(genotype: Genotype) -> Costs:
        found = cost(genotype)
        memory = found["memory"].value * (2 if genotype in dead else 1)
        return found | {"memory": Estimate.exact(memory, "bytes")}

    found = search(evaluate=die_once, failed=instead, cost=costs)
    trials = list(found.run(until=lambda history: len(history) >= 2))
    assert [(trial.number, trial.state) for trial in trials] == [(0, "complete"), (1, "complete")]
    for trial in trials:
        assert trial.facts["tried_again"] == "in 32 bits"
        assert trial.objectives[2] == 2 * cost(trial.genotype)["memory"].value
    assert [before for _, before in heard] == [0, 0]


def test_a_trial_that_dies_again_has_failed_and_the_search_goes_on(search: Make, score: Make, cost: Make) -> None:
    worst = []

    def die(genotype: Genotype) -> Any:
        if not worst or genotype in worst:
            worst.append(genotype)
            raise ChildDied("training", "SIGSEGV")
        return score(genotype)

    found = search(evaluate=die, failed=lambda genotype, problem, before: None if before else "again")
    trials = list(found.run(until=lambda history: len(history) >= 3))
    assert [trial.state for trial in trials] == ["failed", "complete", "complete"]
    assert "SIGSEGV, a wrong memory access" in trials[0].facts["reason"]
    assert len(worst) == 2


def test_what_cannot_be_run_here_is_no_trial(search: Make, score: Make, cost: Make) -> None:
    """Networks with attention end the runtime's process: their latency is endless, with or without a limit."""

    def costs(genotype: Genotype) -> Costs:
        deadly = any("attention" in name for name in genotype.mixers)
        return cost(genotype) | ({"latency": Estimate.exact(math.inf, "ms")} if deadly else {})

    trials = list(search(cost=costs).run(until=lambda history: len(history) >= 12))
    assert len(trials) == 12
    assert not any("attention" in name for trial in trials for name in trial.genotype.mixers)
