"""``medsearch compress``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from medsearch.cli.parser import Answer, add_option, given
from medsearch.cli.show import show
from medsearch.compression.config import OPTIONS, CompressionConfig

ABOUT = "Prune, distil, quantize; a result that is slower, larger or worse than allowed is refused (exit code 3)."
EXAMPLE = "medsearch compress runs/mine/models/0a1b2c3d/model.pt --max-drop 0.5"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is compressed, on which data, and how far."""
    parser.add_argument("model", type=Path, help="a model.pt")
    parser.add_argument("--data", help="data to prune, distil and judge by (default: what it was trained on)")
    for option in OPTIONS.values():
        add_option(parser, option)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="where the files go (default: compressed/ beside the model)"
    )


def run(options: argparse.Namespace) -> Answer:
    """Compress."""
    from medsearch.pipeline.compress import compress_file

    config = CompressionConfig(**given(options, OPTIONS))
    results = compress_file(options.model, data=options.data, config=config, out=options.out)
    return Answer(data=results, show=lambda: _show(results))


def _show(results: dict[str, Any]) -> None:
    from medsearch.report.terminal import compression_table

    show(compression_table(results))
