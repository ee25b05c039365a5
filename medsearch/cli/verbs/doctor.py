"""``medsearch doctor``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medsearch.cli.parser import Answer, count
from medsearch.cli.show import rows

ABOUT = "What this machine has, and how well costs are predicted on it."
EXAMPLE = "medsearch doctor --profile --space hybrid2d-tiny"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is looked at."""
    parser.add_argument("--profile", action="store_true", help="time the parts of --space on this device (minutes)")
    parser.add_argument(
        "--operators",
        action="store_true",
        help="run every operator of --space once, in both precisions, and say what this machine cannot do",
    )
    parser.add_argument("--predictions", type=count, metavar="N", help="predict and measure N networks of --space")
    parser.add_argument(
        "--feasibility",
        type=count,
        metavar="N",
        help="search --space for N trials under binding budgets, and measure each",
    )
    parser.add_argument("--strategy", default="tpe", help="strategy of the search for --feasibility (default tpe)")
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="threads of the target (default 1)")
    parser.add_argument("--target", help="what is timed on: onnxruntime-cpu (default), onnxruntime-cuda, torch-cpu")
    parser.add_argument("--space", help="name or file of a space (default: hybrid2d-tiny)")
    parser.add_argument("--data", help="the data whose image size counts (default: embedded)")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="CSV to append a row per network to; JSON of --profile"
    )


def run(options: argparse.Namespace) -> Answer:
    """Look, or measure."""
    from medsearch.studies.doctor import doctor
    from medsearch.targets import DEFAULT

    return rows(
        doctor(
            profile=options.profile,
            operators=options.operators,
            predictions=options.predictions,
            feasible=options.feasibility,
            strategy=options.strategy,
            threads=options.threads,
            target=options.target or DEFAULT,
            say=lambda line: print(f"medsearch: {line}", file=sys.stderr),
            space=options.space,
            data=options.data,
            out=options.out,
        )
    )
