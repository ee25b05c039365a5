"""What a strategy is: from the history of a search to the next proposal, with no memory and no I/O of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from medsearch.core.registry import Registry
from medsearch.spaces import Genes, Genotype, Space

STRATEGIES = Registry("search strategy", "medsearch.search.strategies")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One genotype that was tried.

    Args:
        number: in the order of the search, from 0.
        genes: of the genotype.
        genotype: what was tried.
        objectives: error, latency (ms) and memory (bytes); None while running or if it failed.
        metrics: of the task, on the validation split.
        curve: error after each evaluated epoch.
        state: ``running``, ``complete``, ``stopped`` (early) or ``failed``.
        facts: costs and whatever else was noted, plain data.
    """

    number: int
    genes: Genes
    genotype: Genotype
    objectives: tuple[float, float, float] | None
    metrics: dict[str, float]
    curve: tuple[float, ...]
    state: str
    facts: dict[str, Any]


class Strategy(Protocol):
    """Proposes the next genotype; the same space, history and seed give the same proposal."""

    def __call__(self, space: Space, history: Sequence[Trial], seed: int) -> Genotype: ...
