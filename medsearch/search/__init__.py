"""Space, budget and evaluator to a front of genotypes.  Nothing here builds a model: evaluators are handed in."""

from medsearch.search.front import choose, front
from medsearch.search.loop import Evaluation, Evaluator, ProposalStatistics, Search, reason
from medsearch.search.store import INTERRUPTED, Store
from medsearch.search.strategy import STRATEGIES, Strategy, Trial, read_strategy

__all__ = [
    "INTERRUPTED",
    "STRATEGIES",
    "Evaluation",
    "Evaluator",
    "Search",
    "Store",
    "Strategy",
    "ProposalStatistics",
    "Trial",
    "choose",
    "front",
    "read_strategy",
    "reason",
]
