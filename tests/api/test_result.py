"""What a search found, read from its folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from medsearch.api.models import create_model
from medsearch.api.result import CompressionResult, DeliveredModel, SearchResult
from medsearch.core.errors import RunError, UsageError
from medsearch.exporters.checkpoint import save_model
from medsearch.pipeline.results import FORMAT
from medsearch.spaces import load_space

BEST = {"accuracy": 0.875, "auc": 0.96}


def row(number: int, *, front: bool, state: str = "complete") -> dict[str, Any]:
    cost = {"predicted": 2.0 + number, "unit": "ms"}
    metrics = {"accuracy": 0.9 - number / 10}
    return {"number": number, "id": f"id{number}", "state": state, "front": front, "metrics": metrics} | {
        "costs": {"latency": cost}
    }


def network(name: str, validation: dict[str, float | None]) -> dict[str, Any]:
    known = {"mixers": ["dwconv", "<b>own</b>"], "test": {"accuracy": None}, "within_budget": True}
    return {"id": name, "folder": f"models/{name}", "validation": validation, **known}


@pytest.fixture
def results() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "data": {"name": "cells & <more>"},
        "primary": "accuracy",
        "trials": [row(0, front=True), row(1, front=False, state="failed"), row(2, front=True)],
        "delivered": [network("0123456789", BEST), network("abcdef0123", {"accuracy": 0.5})],
    }


def stored(folder: Path, results: dict[str, Any]) -> SearchResult:
    (folder / "results.json").write_text(json.dumps(results))
    return SearchResult.read(str(folder))


def test_it_is_read_from_the_folder_of_the_run(tmp_path: Path, results: dict[str, Any]) -> None:
    result = stored(tmp_path, results)
    assert (result.folder, result.data) == (tmp_path, results)
    assert [trial["number"] for trial in result.trials] == [0, 1, 2]
    assert [trial["number"] for trial in result.front] == [0, 2]
    assert result.report == tmp_path / "report.md"
    assert repr(result) == f"SearchResult(folder={tmp_path!r})"


def test_the_best_is_the_first_that_was_delivered_with_its_files(tmp_path: Path, results: dict[str, Any]) -> None:
    best = stored(tmp_path, results).best
    folder = tmp_path / "models" / "0123456789"
    assert isinstance(best, DeliveredModel)
    assert (best.id, best.folder, best.validation, best.data["within_budget"]) == ("0123456789", folder, BEST, True)
    assert (best.checkpoint, best.onnx, best.module) == tuple(
        folder / name for name in ("model.pt", "model.onnx", "backbone.py")
    )


def test_where_nothing_was_delivered_there_is_no_best(tmp_path: Path, results: dict[str, Any]) -> None:
    result = stored(tmp_path, {**results, "delivered": []})
    assert result.models == []
    with pytest.raises(RunError, match=r"no network was delivered.\n  .*report.md says why"):
        _ = result.best


def test_a_folder_without_results_is_refused_with_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there are no results here"):
        SearchResult.read(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RunError, match="Finish it with: medsearch search --resume"):
        SearchResult.read(tmp_path)


def test_a_frame_has_a_row_for_each_trial_and_columns_for_what_is_nested(
    tmp_path: Path, results: dict[str, Any]
) -> None:
    pytest.importorskip("pandas")
    frame = stored(tmp_path, results).to_frame()
    assert list(frame["number"]) == [0, 1, 2]
    assert list(frame["metrics.accuracy"]) == [0.9, 0.8, 0.7]
    assert list(frame.query("front")["costs.latency.predicted"]) == [2.0, 4.0]


def test_a_frame_needs_pandas(tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="needs pandas.\n  pip install 'medsearch.notebook.'"):
        stored(tmp_path, results).to_frame()


def test_in_a_notebook_it_is_a_table_in_which_names_are_text(tmp_path: Path, results: dict[str, Any]) -> None:
    shown = stored(tmp_path, results)._repr_html_()
    assert "cells &amp; &lt;more&gt;: 3 trials, 2 networks delivered" in shown
    assert "dwconv / &lt;b&gt;own&lt;/b&gt;" in shown and "<b>" not in shown
    assert shown.count("<tr>") == 3 and "<td>0.875</td>" in shown


def test_a_score_that_is_not_known_is_a_dash(tmp_path: Path, results: dict[str, Any]) -> None:
    results["delivered"] = [network("0123456789", {})]
    assert "<td>–</td><td>–</td>" in stored(tmp_path, results)._repr_html_()


def test_a_delivered_network_is_loaded_from_its_folder(tmp_path: Path) -> None:
    made = create_model(load_space("hybrid2d-tiny").first(), num_classes=3, size=(16, 16))
    card = made.card
    given = {"genotype": card.genotype, "interface": card.interface, "size": card.size, "model": made}
    save_model(tmp_path / "model.pt", **given, classes=(), scores={}, provenance={})
    delivered = DeliveredModel(id="x", folder=tmp_path, validation={}, test={}, data={})
    assert delivered.load().card.interface.outputs == 3
    assert delivered.load(num_classes=7).card.interface.outputs == 7


def test_a_compression_says_what_was_gained(tmp_path: Path) -> None:
    done = CompressionResult(tmp_path, {"sentence": "int8 is 0.3x the size"})
    assert str(done) == "int8 is 0.3x the size" and done.onnx == tmp_path / "int8.onnx"
