"""``medsearch bench``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from medsearch.cli.parser import Answer, count
from medsearch.cli.show import rows
from medsearch.core.errors import UsageError

ABOUT = """\
FILES side by side, as ratios in one process; or with --blocks token mixers beside public implementations.

--blocks needs the extra 'bench': pip install 'medsearch[bench]'."""
EXAMPLE = "medsearch bench float.onnx int8.onnx"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is timed, and how."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        help="ONNX files, those of another target, or model.pt; the first is what others are compared with",
    )
    parser.add_argument("--target", help="the deployment target that runs the files (default: by their ending)")
    parser.add_argument("--blocks", type=Path, metavar="RECIPE", help="a file such as recipes/bench/blocks.yaml")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="CSV", help="with --blocks: gets a row as each is measured, keeps others"
    )
    parser.add_argument(
        "--seconds", type=float, default=0.5, metavar="S", help="with --blocks: for a row (default 0.5)"
    )
    parser.add_argument("--only", action="append", default=[], metavar="MIXER", help="with --blocks; may be repeated")
    parser.add_argument(
        "--threads", type=count, metavar="N", help="threads of ONNX Runtime (default 1; with --blocks all)"
    )


def run(options: argparse.Namespace) -> Answer:
    """Time files, or token mixers."""
    if options.blocks:
        return rows(_blocks(options))
    if not options.files:
        raise UsageError("medsearch bench", "nothing to time.", "Give ONNX files, or --blocks with a recipe.")
    if options.out or options.only:
        raise UsageError("medsearch bench", "-o and --only go with --blocks.", "See: medsearch bench --help")
    from medsearch.pipeline.bench import bench

    return rows(bench(options.files, threads=options.threads or 1, target=options.target))


def _blocks(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.files:
        raise UsageError("--blocks", "times token mixers, not files.", "Leave the files out, or --blocks.")
    if not options.out:
        raise UsageError("--blocks", "needs -o, a CSV file for the rows.", "For example: -o blocks.csv")
    if not 0 < options.seconds <= 3600:
        raise UsageError("--seconds", f"expected seconds from 0 to 3600, got {options.seconds:g}.", "For example: 0.5")
    from medsearch.studies.mixers import bench_blocks

    return bench_blocks(
        options.blocks,
        out=options.out,
        seconds=options.seconds,
        only=options.only,
        threads=options.threads,
        say=lambda line: print(line, file=sys.stdout),
    )
