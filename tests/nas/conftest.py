"""A small space, costs that add up by hand, and evaluations that take no time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medsearch.measurement.budget import Budget, Costs
from medsearch.measurement.estimate import Estimate
from medsearch.nas import STRATEGIES, Search, Store, Trial
from medsearch.spaces import Genotype, Space, read_space
from medsearch.testing.strategies import toy_data

OBJECTIVES = ("latency", "memory")


def read(**changes: Any) -> Space:
    """The toy space, with other values."""
    return read_space({**toy_data(), **changes}, "toy.yaml")


def cost(genotype: Genotype) -> Costs:
    """Parameters: 1000 a channel; latency 1 ms a channel, known to 10 %; memory: 1 MB a channel, exact."""
    channels = sum(stage.dim for stage in genotype.stages)
    latency = Estimate(value=channels, low=0.9 * channels, high=1.1 * channels, unit="ms", how="predicted")
    return Costs(
        parameters=Estimate.exact(1000 * channels, "parameters"),
        macs=Estimate.exact(channels, "MAC"),
        memory=Estimate.exact(1e6 * channels, "bytes"),
        latency=latency,
    )


@dataclass(frozen=True, kw_only=True)
class Result:
    error: float
    metrics: dict[str, float]
    seconds: float = 1.0
    training_seconds: float = 1.0
    epochs: float = 2.0


def evaluate(genotype: Genotype) -> Result:
    """Wider is better, attention is better still, and no two networks are alike."""
    channels = sum(stage.dim for stage in genotype.stages)
    attention = sum("attention" in name for name in genotype.mixers)
    error = 0.5 - 0.004 * channels - 0.05 * attention + int(genotype.id[:4], 16) * 1e-7
    return Result(error=error, metrics={"accuracy": 1 - error})


class Now(Executor):
    """Runs what is submitted at once, in this thread."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **named))
        except Exception as problem:
            future.set_exception(problem)
        return future


def make_search(folder: Path, **changes: Any) -> Search:
    """A random search of the toy space in ``folder``, with no limits unless changed."""
    space = changes.setdefault("space", read())
    fixed = {
        "strategy": STRATEGIES["random"](),
        "cost": cost,
        "budget": Budget(),
        "objectives": OBJECTIVES,
        "evaluate": evaluate,
        "executor": Now(),
        "store": Store(f"sqlite:///{folder / 'study.db'}", space, objectives=OBJECTIVES),
    }
    return Search(**{**fixed, **changes})


def make_trial(genotype: Genotype, *, number: int = 0, objectives: Any = None, **changes: Any) -> Trial:
    """A complete trial, by default with the toy's own costs and errors."""
    result, costs = evaluate(genotype), cost(genotype)
    known = {
        "number": number,
        "genes": changes.pop("space", read()).encode(genotype),
        "genotype": genotype,
        "objectives": objectives or (result.error, costs["latency"].value, costs["memory"].value),
        "metrics": result.metrics,
        "curve": (result.error,),
        "state": "complete",
        "facts": {"costs": costs.to_data(), "seconds": 1.0},
    }
    return Trial(**{**known, **changes})


@pytest.fixture
def space() -> Space:
    return read()


@pytest.fixture
def a_space() -> Callable[..., Space]:
    """``a_space(stages=[...])``: the toy space with other values."""
    return read


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., Search]:
    """``search(budget=..., ...)``: a search in this test's own folder."""

    def make(**changes: Any) -> Search:
        return make_search(tmp_path, **changes)

    return make


@pytest.fixture
def trial() -> Callable[..., Trial]:
    return make_trial


@pytest.fixture(name="cost")
def costs() -> Callable[..., Costs]:
    return cost


@pytest.fixture
def score() -> Callable[..., Result]:
    return evaluate
