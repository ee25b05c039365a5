"""The reference of the Python API: as the docstrings are now, and complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import medsearch
import medsearch.testing
from medsearch.config import OPTIONS
from medsearch.core.errors import BudgetError
from medsearch.measurement.costs import COSTS
from medsearch.studies import reference

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def page() -> str:
    return reference.reference()


def test_the_page_is_as_the_docstrings_are_now(page: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == page, "docs/api.md is out of date; write it anew: make docs"


def test_everything_public_has_an_entry(page: str) -> None:
    headings = re.findall("^### (.*)$", page, re.MULTILINE)
    wanted = {f"{module.__name__}.{name}" for module in (medsearch, medsearch.testing) for name in module.__all__}
    assert set(headings) == wanted and len(headings) == len(wanted)


def test_options_and_limits_are_listed_in_tables(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `--", page, re.MULTILINE)
    assert {*OPTIONS, *COSTS} <= set(rows)
    assert "| `time` | `--time` | `10m` | `None` | seconds for everything (default 15m, unless trials" in page


def test_links_lead_to_headings(page: str) -> None:
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall("^#+ (.*)$", page, re.MULTILINE)
    }
    links = re.findall(r"\]\(#([^)]*)\)", page)
    assert links and set(links) <= anchors


def test_methods_properties_and_constructors_are_written_as_they_are_used(page: str) -> None:
    assert "\nSearchResult.best: DeliveredModel\n" in page
    assert "\nSearchResult.read(folder: str | Path) -> SearchResult\n" in page
    assert "\nCallback.progress(done: int, total: int, what: str) -> None\n" in page
    assert "\nEstimate(*, value: float, low: float, high: float, unit: str, how: str)\n" in page
    assert "_repr_html_" not in page and "Budget.items" not in page


def sample(first: int, *others: str, dim: int = 3) -> None:
    """Do a thing; see :func:`medsearch.load` and ``other``.

    More of it, by :class:`~medsearch.core.errors.BudgetError`.

    Args:
        first, dim: numbers of
            pixels.
        others: names.

    Raises:
        BudgetError, ValueError: always.
    """
    raise BudgetError("sample", "always")


def test_a_docstring_becomes_markdown() -> None:
    signature, text = reference._signature("sample", sample), reference._text(sample)
    assert signature == "```text\nsample(first: int, *others: str, dim: int = 3) -> None\n```"
    assert text == (
        "Do a thing; see [`medsearch.load`](#medsearchload) and `other`.\n\n"
        "More of it, by `BudgetError`.\n\n"
        "*Args*\n\n- `first`, `dim`: numbers of\n  pixels.\n- `others`: names.\n\n"
        "*Raises*\n\n- `BudgetError`, `ValueError`: always."
    )


def test_what_has_no_docstring_is_refused() -> None:
    with pytest.raises(ValueError, match="has no docstring"):
        reference._text(lambda: None)
