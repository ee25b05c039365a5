"""``medsearch doctor --feasibility``: whether a search under binding budgets tries and delivers only what fits.

The budgets are set at the lowest quartile of the space's predicted memory and latency.  In place of training, a network
counts as the better the more multiply-adds it has, so that the search is drawn to its limits.  Every trial is then
measured as a whole network, and those on the front once more, as a delivery is.  Four groups of networks are compared
gene by gene: drawn at random, those of them that fit, those of them that were repaired, and the trials.  Repair is to
keep the diversity that the budgets leave; what the strategy then prefers is its own.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medsearch.core.files import append_row, read_rows
from medsearch.core.units import format_bytes
from medsearch.measurement.budget import Budget, Costs
from medsearch.measurement.calibration import Measured
from medsearch.measurement.model import CostModel
from medsearch.nas import Search, Trial, front, read_strategy
from medsearch.nas.store import Store
from medsearch.pipeline.setup import Setup
from medsearch.spaces import Genotype, Space

FIELDS = (
    "trial",
    "id",
    "memory_predicted",
    "memory_upper",
    "memory_measured",
    "latency_predicted",
    "latency_upper",
    "latency_measured",
    "kept",
)
DRAWN = 1000
TOGETHER = 10
"""Networks that are timed in turns; then their rows are written."""


@dataclass(frozen=True, kw_only=True)
class _Size:
    """An evaluation that only knows how large a network is."""

    error: float
    seconds: float = 0.0
    training_seconds: float = 0.0
    epochs: float = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        return {"error": self.error}


def feasibility(
    setup: Setup, cost: CostModel, *, trials: int, strategy: str, out: Path, seed: int = 0
) -> list[dict[str, Any]]:
    """Search under binding budgets, measure every trial, and say how many fit and how diverse they are.

    Args:
        setup: space, data and task.
        cost: corrected by whole networks.
        trials: how many.
        strategy: of the search.
        out: a CSV file that gets a row as each trial is measured; those it has are not measured again.
        seed: of the search.
    """
    rng = random.Random(seed)
    drawn = [setup.space.sample(rng) for _ in range(DRAWN)]
    budget = Budget(
        memory=_quartile(cost(genotype)["memory"].value for genotype in drawn),
        latency=_quartile(cost(genotype)["latency"].value for genotype in drawn),
    )

    search, done = _search(setup, cost, budget, trials=trials, strategy=strategy, seed=seed)
    tried = [trial.genotype for trial in done]
    rows = _measured(setup, cost, budget, tried, out)
    fitting = [genotype for genotype in drawn if budget.violation(cost(genotype)) <= 0]
    made = [setup.space.repair(genotype, search.violation, rng) for genotype in drawn[:trials]]
    repaired = [genotype for genotype in made if genotype is not None]
    over = {row["id"] for row in rows if row["kept"] != "True"}
    best = [trial.genotype for trial in front(done)]
    delivered = [genotype for genotype in best if genotype.id not in over]
    again = [row["kept"] for row in _rows(setup, cost, budget, delivered)]
    groups = {"at random": drawn, "fitting": fitting, "repaired": repaired, "tried": tried}
    entropies = {name: _entropies(setup.space, group) for name, group in groups.items()}
    means = {name: statistics.mean(filter(math.isfinite, by_gene.values())) for name, by_gene in entropies.items()}
    found = {
        "memory budget": format_bytes(budget.get("memory", 0)),
        "latency budget": f"{budget['latency']:.3g} ms",
        "of networks drawn at random fit": f"{100 * len(fitting) / len(drawn):.1f} %",
        "trials": len(rows),
        "over budget when measured": f"{len(over)} ({100 * len(over) / len(rows):.2f} %)",
        "on the front, and of these refused when measured": f"{len(best)}, {len(best) - len(delivered)}",
        "delivered, and of these over budget when measured again": f"{len(delivered)}, {again.count('False')}",
        "proposals repaired": search.proposals.repaired,
        "proposals drawn again": search.proposals.resampled,
        "different networks": len(set(tried)),
        "random networks that a repair made fit": f"{len(repaired)} of {len(made)}, {len(set(repaired))} different",
        "mean entropy of a gene": ", ".join(f"{value:.3f} {name}" for name, value in means.items()),
    }
    lines = [{"what": what, "here": str(value)} for what, value in found.items()]
    for gene in sorted(setup.space.genes()):
        shares = (f"{by_gene[gene]:.2f} {name}" for name, by_gene in entropies.items())
        lines.append({"what": f"entropy of {gene}", "here": ", ".join(shares)})
    return lines


def _search(
    setup: Setup, cost: CostModel, budget: Budget, *, trials: int, strategy: str, seed: int
) -> tuple[Search, list[Trial]]:
    """The search, over, and its trials."""

    def evaluate(genotype: Genotype) -> _Size:
        return _Size(error=1 / math.log(cost.macs(genotype)))

    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as executor:
        search = Search(
            space=setup.space,
            strategy=read_strategy(strategy, where="--strategy"),
            cost=cost,
            budget=budget,
            objectives=tuple(budget),
            evaluate=evaluate,
            executor=executor,
            store=Store(f"sqlite:///{folder}/study.db", setup.space, objectives=tuple(budget)),
            seed=seed,
        )
        return search, list(search.run(until=lambda history: len(history) >= trials))


def _entropies(space: Space, genotypes: Sequence[Genotype]) -> dict[str, float]:
    """Of every gene: see :func:`entropy`."""
    encoded = [space.encode(genotype) for genotype in genotypes]
    return {
        gene: entropy([genes[gene] for genes in encoded if gene in genes], len(options))
        for gene, options in space.genes().items()
    }


def entropy(chosen: Sequence[Any], options: int) -> float:
    """Shannon entropy of what networks chose of so many options, as a share of the largest possible."""
    from scipy import stats  # takes most of a second

    if not chosen or options < 2:
        return math.nan
    return float(stats.entropy(list(Counter(chosen).values()), base=options))


def _quartile(values: Iterable[float]) -> float:
    return statistics.quantiles(values, n=4)[0]


def _measured(
    setup: Setup, cost: CostModel, budget: Budget, tried: Sequence[Genotype], out: Path
) -> list[dict[str, Any]]:
    ids = {genotype.id for genotype in tried}
    rows = [row for row in read_rows(out) if row["id"] in ids]
    known = {row["id"] for row in rows}
    left = [(number, genotype) for number, genotype in enumerate(tried) if genotype.id not in known]
    for start in range(0, len(left), TOGETHER):
        numbers, genotypes = zip(*left[start : start + TOGETHER], strict=True)
        for number, row in zip(numbers, _rows(setup, cost, budget, genotypes), strict=True):
            rows.append({"trial": number, "id": tried[number].id, **row})
            append_row(out, FIELDS, rows[-1])
    return rows


def _rows(setup: Setup, cost: CostModel, budget: Budget, genotypes: Sequence[Genotype]) -> Iterator[dict[str, Any]]:
    """What was predicted of networks, and what they take."""
    found = setup.measured(genotypes, tuple(budget), cost.times.whole)
    return (_row(cost(genotype), real, budget) for genotype, real in zip(genotypes, found, strict=True))


def _row(predicted: Costs, real: Measured, budget: Budget) -> dict[str, Any]:
    return {
        "memory_predicted": predicted["memory"].value,
        "memory_upper": predicted["memory"].high,
        "memory_measured": real["memory"],
        "latency_predicted": predicted["latency"].value,
        "latency_upper": predicted["latency"].high,
        "latency_measured": real["latency"],
        "kept": str(all(real[name] <= limit for name, limit in budget.items())),
    }
