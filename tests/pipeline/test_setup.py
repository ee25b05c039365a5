"""What a search looks at before it does any work."""

from __future__ import annotations

import pytest

from medsearch.core.errors import UsageError
from medsearch.pipeline.setup import prepare
from medsearch.run import SearchConfig


def test_the_knobs_of_the_strategy_are_looked_at_before_the_data_is_read() -> None:
    with pytest.raises(UsageError, match="^--strategy: tpe: startup_trials must be at least 1, got 0"):
        prepare(SearchConfig(data="nowhere.npz", strategy="tpe:startup_trials=0"))
