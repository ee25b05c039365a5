"""``medsearch report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medsearch.cli.parser import Answer
from medsearch.cli.show import show

ABOUT = "Print the report of a finished search and write its page again."
EXAMPLE = "medsearch report runs/brain2d-20260101-120000"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which run."""
    parser.add_argument("run", type=Path, help="folder of the run")


def run(options: argparse.Namespace) -> Answer:
    """Read the results."""
    from medsearch.pipeline.report import read_results

    results = read_results(options.run)
    return Answer(data=results, show=lambda: _show(results, options.run))


def _show(results: dict[str, Any], folder: Path) -> None:
    from medsearch.report.page import write_report
    from medsearch.report.terminal import front_table

    show(front_table(results))
    print(f"Report: {write_report(results, folder)}")
