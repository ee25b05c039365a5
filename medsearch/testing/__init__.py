"""Contract tests that the author of a part runs on it, in a package of his own as much as here.

Each check takes the name under which a part is registered, or its class, and raises an AssertionError that says what
the contract wants; it needs nothing but the part, so it is a test by itself::

    from medsearch.testing import check_mixer
    from mypkg.mixers import GatedDepthwise

    def test_it_keeps_the_contract():
        check_mixer(GatedDepthwise)

medsearch's own tests ask the same of what it ships.
"""

from medsearch.testing.blocks import check_channel, check_mixer
from medsearch.testing.costs import check_cost
from medsearch.testing.evaluators import check_evaluator
from medsearch.testing.readers import check_reader
from medsearch.testing.strategies import check_strategy
from medsearch.testing.targets import check_target
from medsearch.testing.tasks import check_task

__all__ = [
    "check_channel",
    "check_cost",
    "check_evaluator",
    "check_mixer",
    "check_reader",
    "check_strategy",
    "check_target",
    "check_task",
]
