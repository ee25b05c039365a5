"""Space, budget and evaluator to a front of genotypes.  Nothing here builds a model: evaluators are handed in."""

from medsearch.nas.front import choose, front
from medsearch.nas.loop import Evaluation, Evaluator, ProposalStatistics, Search, reason
from medsearch.nas.store import INTERRUPTED, Store
from medsearch.nas.strategy import STRATEGIES, Strategy, Trial, read_strategy

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
