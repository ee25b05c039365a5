"""The published architectures among the spaces: each counts what was published, and the command says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsearch.cli import main
from medsearch.core.library import find
from medsearch.studies.published import points, verify_published


@pytest.mark.parametrize("name", points())
def test_a_point_counts_what_was_published(name: str) -> None:
    (row,) = verify_published(name)
    assert row["verdict"] != "differs", row
    assert (row["verdict"] == "-") == (row["status"] == "approximation"), "claim a number, or call it an approximation"
    assert (row["differs in"] == "-") == (row["status"] == "exact")


def test_a_point_that_differs_ends_with_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = find("spaces", "convnext-t").read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("28589128", "28589129"))
    assert main(["spaces", "verify", str(wrong), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["verdict"] == "differs"
    wrong.write_text(text.replace("4.456G", "4.47G"))
    assert main(["spaces", "verify", str(wrong), "--json"]) == 1
    assert main(["spaces", "verify", "convnext-t", "--json"]) == 0


def test_what_has_no_published_numbers_cannot_be_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spaces", "verify", "hybrid2d-tiny"]) == 2
    assert "hybrid2d-tiny: published: is missing" in capsys.readouterr().err
