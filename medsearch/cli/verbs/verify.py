"""``medsearch verify``."""

from __future__ import annotations

import argparse
from pathlib import Path

from medsearch.cli.parser import Answer
from medsearch.cli.show import after, rows

ABOUT = "Measure a delivered network again; exit code 0: every limit is kept on this machine, 3: at least one is not."
EXAMPLE = "medsearch verify runs/brain2d-20260101-120000/models/0a1b2c3d"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is verified."""
    parser.add_argument("model", type=Path, help="a delivered folder, or the model.pt in it")


def run(options: argparse.Namespace) -> Answer:
    """Measure and compare."""
    from medsearch.pipeline.verification import rows as compared
    from medsearch.pipeline.verification import verify

    found = verify(options.model)
    said = "\n".join([*found["remarks"], found["verdict"]])
    table = rows(compared(found))
    return Answer(data=found, show=after(table.show, lambda: print(said)), code=0 if found["kept"] else 3)
