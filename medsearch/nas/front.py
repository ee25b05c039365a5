"""Who is on the front, and whom to deliver from it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medsearch.nas.strategy import Trial


def dominates(one: Trial, other: Trial) -> bool:
    """Whether ``one`` is nowhere worse and somewhere better than ``other``, in error and costs."""
    return one.objectives is not None and other.objectives is not None and beats(one.objectives, other.objectives)


def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether ``one`` is nowhere larger and somewhere smaller than ``other``."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def front(trials: Sequence[Trial]) -> list[Trial]:
    """The complete trials that no other dominates, best error first."""
    finished = [trial for trial in trials if trial.state == "complete" and trial.objectives is not None]
    free = [one for one in finished if not any(dominates(other, one) for other in finished)]
    return sorted(free, key=_objectives)


def choose(trials: Sequence[Trial], count: int, *, images: int | None = None) -> list[Trial]:
    """``count`` trials worth training fully: the best, then those that differ most at the least cost in error.

    The best is the one with the least error.  With the number of validation ``images``, it is, of those at the highest
    rung that are within one standard error of it, the one that has seen the images least often: trials are compared
    after equal time, and what is slower then gains most from more of it (Hoffmann et al. 2022, arXiv:2203.15556: the
    size that is best grows with the time there is).  After it comes, one at a time, the trial with
    the highest gain: mixer families not chosen yet, stages with another mixer, and how much cheaper it is, against how
    much error it adds.  What is cheap is said by the first cost among the objectives.  Trials off the front are
    candidates too (a family may be a hair behind), but only if the front has too few.
    """
    on_front = front(trials)
    rest = [trial for trial in trials if trial.state == "complete" and trial.objectives is not None]
    spare = sorted((trial for trial in rest if trial not in on_front), key=_objectives)
    chosen = [_best(rest, on_front[0], images)] if on_front else []
    pool = [trial for trial in on_front if trial not in chosen] + spare[: max(0, count - len(on_front))]
    while pool and len(chosen) < count:
        best = max(pool, key=lambda trial: _worth(trial, chosen))
        chosen.append(best)
        pool.remove(best)
    return chosen


def _best(trials: Sequence[Trial], least: Trial, images: int | None) -> Trial:
    """Of those that cannot be told from the trial with the least error, the one that gains most from going on."""
    error = _objectives(least)[0]
    doubt = math.sqrt(max(0.0, error * (1 - error)) / images) if images else 0.0
    alike = [
        trial for trial in trials if _objectives(trial)[0] <= error + doubt and len(trial.curve) == len(least.curve)
    ]
    return min(alike, key=lambda trial: (trial.facts.get("epochs", 0.0), _objectives(trial)))


def _objectives(trial: Trial) -> tuple[float, ...]:
    assert trial.objectives is not None
    return trial.objectives


def _worth(trial: Trial, chosen: Sequence[Trial]) -> float:
    error, cost = _objectives(trial)[:2]
    best_error, best_cost = _objectives(chosen[0])[:2]
    known = {name for other in chosen for name in _families(other)}
    new = len(_families(trial) - known)
    differing = min(
        sum(a != b for a, b in zip(trial.genotype.mixers, other.genotype.mixers, strict=True)) for other in chosen
    )
    cheaper = max(0.0, 1 - cost / best_cost)
    penalty = (error - best_error) / max(best_error, 1e-9)
    return 0.3 * new + 0.1 * differing + 0.5 * cheaper - 2.0 * penalty


def _families(trial: Trial) -> set[str]:
    return {block.mixer.name for stage in trial.genotype.stages for block in stage.blocks}
