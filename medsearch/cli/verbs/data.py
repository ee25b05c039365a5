"""``medsearch data``."""

from __future__ import annotations

import argparse

from medsearch.cli.parser import Answer
from medsearch.cli.show import rows

ABOUT = "Check a data set: balance, leaks between splits, unreadable files; exit code 3 where something is wrong."
EXAMPLE = "medsearch data check images.npz"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is checked."""
    parser.add_argument("action", choices=["check"])
    parser.add_argument("source", nargs="?", help="as for search --data")
    parser.add_argument("--task", help="where the data leaves it open")


def run(options: argparse.Namespace) -> Answer:
    """Check it."""
    from medsearch.pipeline.data import check_data

    found = check_data(options.source, task=options.task)
    return rows(found, code=3 if any(row.get("level") == "error" for row in found) else 0)
