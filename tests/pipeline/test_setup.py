"""What a search looks at before it does any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medsearch.core.errors import RunError, UsageError
from medsearch.pipeline.report import read_results
from medsearch.pipeline.setup import prepare
from medsearch.run import SearchConfig


def test_the_knobs_of_the_strategy_are_looked_at_before_the_data_is_read() -> None:
    with pytest.raises(UsageError, match="^--strategy: tpe: startup_trials must be at least 1, got 0"):
        prepare(SearchConfig(data="nowhere.npz", strategy="tpe:startup_trials=0"))


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        ("latency,memry", r"--objectives: there is no cost 'memry'.\n  Did you mean 'memory'"),
        ("latency,latency", "--objectives: names a cost twice: latency, latency."),
        ([], "--objectives: names no cost."),
    ],
)
def test_objectives_are_costs_and_each_is_named_once(objectives: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prepare(SearchConfig.read({"objectives": objectives}))


def test_objectives_are_written_with_commas_or_as_a_list() -> None:
    written = SearchConfig.read({"objectives": "macs, parameters"})
    assert written.objectives == ("macs", "parameters")
    assert SearchConfig.read({"objectives": ["macs", "parameters"]}) == written
    assert SearchConfig.from_data(json.loads(json.dumps(written.to_data()))) == written
    assert SearchConfig.read({}).objectives == ("latency", "memory")


def test_results_of_an_earlier_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"delivered": []}')
    with pytest.raises(RunError, match="holds results in format 1 .* format 2.\n  Read its report.md"):
        read_results(tmp_path)
