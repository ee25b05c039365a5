"""The report of a run on disk: a Markdown page and its picture."""

from __future__ import annotations

from pathlib import Path

from medsearch.core.files import write_text
from medsearch.report.markdown import PICTURE, VECTORS, summary
from medsearch.report.networks import Data
from medsearch.report.plots import front_plot


def write_report(results: Data, folder: str | Path) -> Path:
    """Write ``report.md``, ``front.png`` and ``front.svg`` into ``folder``, each in one step; returns the page."""
    folder = Path(folder)
    front_plot(results, folder / PICTURE, folder / VECTORS)
    write_text(folder / "report.md", summary(results))
    return folder / "report.md"
