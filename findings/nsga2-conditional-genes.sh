#!/usr/bin/env bash
# optuna 5.0.0: a child of NSGA-II inherits nothing that not every trial before it has had.
#
# Guess: a child that takes a branch of a conditional space inherits the parameters of that branch from a parent that took
#   it too, and the rest is drawn.
# Seen: crossover and mutation act on the parameters that *all* finished trials share; every other one is drawn uniformly
#   anew, generation after generation.  Of a flat space of six parameters 87 % of the values of generations 1 to 9 stood
#   in an earlier trial; of six below each side of a choice 3 %, which is chance; and 6 %, which is chance again,
#   in the flat space if a single trial, the very first, has had six others.  NSGA-III does the same.  There is no warning.
# Who meets it: whoever searches architectures whose choice of an operator opens knobs of its own: those knobs are searched
#   at random.
# Exits with 1 if the share of inherited values is another.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check optuna==5.0.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
POPULATION, TRIALS = 10, 100


SPACES = {
    "flat": lambda trial: "a",
    "below a choice": lambda trial: trial.suggest_categorical("branch", ["a", "b"]),
    "after one stray trial": lambda trial: "a" if trial.number else "b",
}


def inherited(sampler, branch):
    """The share of values of later generations that an earlier trial has had, the choice itself not counted."""

    def objectives(trial):
        side = branch(trial)
        total = sum(trial.suggest_int(f"{side}{i}", 0, 999) for i in range(6))
        return total, -total

    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler(seed=0, population_size=POPULATION))
    study.optimize(objectives, n_trials=TRIALS)
    known = [
        any(earlier.params.get(name) == value for earlier in study.trials[: trial.number])
        for trial in study.trials[POPULATION:]
        for name, value in trial.params.items()
        if name != "branch"
    ]
    return sum(known) / len(known)


as_stated = True
for sampler in (optuna.samplers.NSGAIISampler, optuna.samplers.NSGAIIISampler):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shares = {space: inherited(sampler, branch) for space, branch in SPACES.items()}
    complaints = [one for one in said if not issubclass(one.category, optuna.exceptions.ExperimentalWarning)]
    print(f"{sampler.__name__}: inherited", ", ".join(f"{share:.0%} ({space})" for space, share in shares.items()))
    flat, *others = shares.values()
    as_stated &= flat > 0.7 and max(others) < 0.1 and not complaints
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
