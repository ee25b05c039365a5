"""``medsearch export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from medsearch.cli.parser import Answer

ABOUT = "Write a model.pt as one plain Python file with its weights beside it, or as ONNX; either is checked first."
EXAMPLE = "medsearch export runs/mine/models/0a1b2c3d/model.pt -o backbone.py"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is written, and where."""
    parser.add_argument("model", type=Path, help="a model.pt")
    about = "for example mynet.py, which gets mynet.pt beside it, or mynet.onnx"
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help=about)


def run(options: argparse.Namespace) -> Answer:
    """Export."""
    from medsearch.exporters.checkpoint import load_model
    from medsearch.pipeline.export import export_checkpoint

    said = export_checkpoint(load_model(options.model), options.out)
    return Answer(data={"file": str(options.out), "about": said}, show=lambda: print(said))
