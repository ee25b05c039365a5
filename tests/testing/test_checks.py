"""The checks hold for what is shipped, and say what the contract wants where a part breaks it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medsearch.blocks import MIXERS
from medsearch.blocks.knobs import one_of
from medsearch.data import READERS, Dataset, load
from medsearch.measurement.costs import COSTS, Cost, Measurement
from medsearch.measurement.estimate import Estimate
from medsearch.nas import STRATEGIES
from medsearch.tasks import TASKS, Metric
from medsearch.tasks.kinds.classification import Classification
from medsearch.testing import (
    check_channel,
    check_cost,
    check_evaluator,
    check_mixer,
    check_reader,
    check_strategy,
    check_task,
)
from medsearch.train import EVALUATORS, Evaluation, Evaluator


@pytest.fixture
def known() -> Iterator[Callable[[Any, type], type]]:
    """``known(MIXERS, part)``: the part is in the registry, under ``mine``, until the test ends."""
    added = []

    def add(registry: Any, part: type) -> type:
        registry._load()["mine"] = part
        added.append(registry)
        return part

    yield add
    for registry in added:
        del registry._parts["mine"]


def test_what_is_shipped_keeps_its_contract() -> None:
    check_mixer("window_attention")
    check_channel("gated")
    check_reader("embedded", "brain2d")
    check_evaluator("training")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_its_contract(name: str) -> None:
    check_task(name)


@pytest.mark.parametrize("name", COSTS)
def test_every_cost_keeps_its_contract(name: str) -> None:
    check_cost(name)


class Warmth(Cost):
    """A cost that keeps the contract."""

    option, unit, example, about, title = "warmth", "J", "5mJ", "warmth of one image", "warmth"

    def measure(self, asked: Measurement) -> Estimate | None:
        return Estimate.exact(1.0, "J", "measured")


COST_MISTAKES: dict[str, dict[str, Any]] = {
    "refuses its example": {"example": "plenty"},
    "about": {"about": ""},
    "is the option of memory already": {"option": "mem"},
    "neither": {"measure": lambda self, asked: None},
    "its unit is 'J'": {"measure": lambda self, asked: Estimate.exact(1.0, "ms", "measured")},
    "how='measured'": {"measure": lambda self, asked: Estimate.exact(1.0, "J")},
    "0 <= low": {"predict": lambda self, asked: Estimate(value=1.0, low=2.0, high=3.0, unit="J", how="predicted")},
}


def test_a_cost_that_keeps_the_contract_passes(known: Callable[[Any, type], type]) -> None:
    check_cost(known(COSTS, Warmth))


@pytest.mark.parametrize("said", COST_MISTAKES)
def test_a_cost_that_breaks_the_contract_is_told_how(said: str, known: Callable[[Any, type], type]) -> None:
    wrong = known(COSTS, type("Wrong", (Warmth,), COST_MISTAKES[said]))
    with pytest.raises(AssertionError, match=said):
        check_cost(wrong)


class Plain(nn.Module):
    """A mixer that keeps the contract."""

    FAMILY, NORM = "conv", "batch"

    def __init__(self, dim: int, *, dims: int, kind: str = "sum") -> None:
        super().__init__()
        self.kind = one_of("mine", "kind", kind, ("sum", "none"))
        self.weight = nn.Parameter(torch.ones(dim, *(1,) * dims))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS * self.weight


class Nameless(Plain):
    FAMILY = ""


class Shrinks(Plain):
    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS[..., :1] * self.weight


class Mixes(Plain):
    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS * self.weight + x_BCS.mean(0)


class Idle(Plain):
    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS + 0 * self.weight


class Hides(Plain):
    def __init__(self, dim: int, *, dims: int) -> None:
        super().__init__(dim, dims=dims)
        self.drawn = torch.randn(dim, *(1,) * dims)

    def forward(self, x_BCS: Tensor) -> Tensor:
        return x_BCS * self.weight + self.drawn


class Lenient(Plain):
    def __init__(self, dim: int, *, dims: int, kind: str = "sum") -> None:
        super().__init__(dim, dims=dims)


BROKEN_MIXERS = [
    (Nameless, "FAMILY says which family"),
    (Shrinks, r"makes \(3, 12, 8, 1\) of a map of \(8, 8\); \(3, 12, 8, 8\) is wanted"),
    (Mixes, "an image alone gives another result than in a batch"),
    (Idle, "weight does not change the output"),
    (Hides, "a module with the same state dict gives other values"),
    (Lenient, "takes kind='nonsense'"),
]


@pytest.mark.parametrize(("part", "said"), BROKEN_MIXERS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_mixer_that_breaks_the_contract_is_told_what_it_wants(known: Any, part: type, said: str) -> None:
    with pytest.raises(AssertionError, match=f"mixer mine: .*{said}"):
        check_mixer(known(MIXERS, part))


def test_a_mixer_that_keeps_it_passes(known: Any) -> None:
    check_mixer(known(MIXERS, Plain))


def test_a_class_that_nobody_registered_is_said_to_be_one() -> None:
    with pytest.raises(AssertionError, match=r"Plain is not a registered token mixer: decorate the class with .add"):
        check_mixer(Plain)


class Upwards(Classification):
    def error(self, metrics: Any) -> float:
        return metrics[self.primary]


class Undescribed(Classification):
    METRICS = {"accuracy": Metric(label="accuracy")}


@pytest.mark.parametrize(
    ("task", "said"), [(Upwards, "error falls as 'accuracy' gets better"), (Undescribed, "METRICS describes")]
)
def test_a_task_that_breaks_the_contract_is_told_what_it_wants(known: Any, task: type, said: str) -> None:
    task.HEAD_LIKE = "classification"  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match=f"task mine: .*{said}"):
        check_task(known(TASKS, task))


class Greedy:
    TAKES = "everything"

    def claims(self, source: str) -> bool:
        return True


class Elsewhere:
    TAKES = "a word"

    def claims(self, source: str) -> bool:
        return source == "word"

    def read(self, source: str, *, task: str | None = None) -> Any:
        return Dataset(**_fields(load("brain2d"), "brain3d"))


def _fields(data: Any, source: str) -> dict[str, Any]:
    names = ("name", "task", "dims", "channels", "size", "classes", "train", "val", "notes")
    return {**{name: getattr(data, name) for name in names}, "source": source, "test": data.open_test()}


@pytest.mark.parametrize(
    ("reader", "said"), [(Greedy, "takes only what it can read"), (Elsewhere, "gives another data set")]
)
def test_a_reader_that_breaks_the_contract_is_told_what_it_wants(known: Any, reader: type, said: str) -> None:
    with pytest.raises(AssertionError, match=f"reader mine: .*{said}"):
        check_reader(known(READERS, reader), "word")


class Restless:
    count = 0

    def __call__(self, space: Any, history: Any, seed: int) -> Any:
        Restless.count += 1
        return space.sample(random.Random(Restless.count))


class Forger:
    def __call__(self, space: Any, history: Any, seed: int) -> Any:
        return "a network"


@pytest.mark.parametrize(
    ("strategy", "said"), [(Restless, "space, history and seed alone decide"), (Forger, "what is not in the space")]
)
def test_a_strategy_that_breaks_the_contract_is_told_what_it_wants(known: Any, strategy: type, said: str) -> None:
    with pytest.raises(AssertionError, match=f"strategy mine: .*{said}"):
        check_strategy(known(STRATEGIES, strategy))


class Peeks(Evaluator):
    def __call__(self, genotype: Any) -> Evaluation:
        if not self.data._vault.opened:
            self.data.open_test()
        return Evaluation(error=0.5)


class Endless(Evaluator):
    def __call__(self, genotype: Any) -> Evaluation:
        return Evaluation(error=float("nan"))


@pytest.mark.parametrize(
    ("evaluator", "said"), [(Peeks, "reads the test split"), (Endless, "the error is a finite float")]
)
def test_an_evaluator_that_breaks_the_contract_is_told_what_it_wants(known: Any, evaluator: type, said: str) -> None:
    with pytest.raises(AssertionError, match=f"evaluator mine: .*{said}"):
        check_evaluator(known(EVALUATORS, evaluator))
