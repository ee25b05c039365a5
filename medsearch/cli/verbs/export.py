"""``medsearch export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from medsearch.cli.parser import Answer

ABOUT = """\
Write a model.pt as one plain Python file with its weights beside it, or as the file of a deployment target, such as
ONNX; what is written was compared with the model."""
EXAMPLE = "medsearch export runs/mine/models/0a1b2c3d/model.pt -o backbone.py"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is written, and where."""
    parser.add_argument("model", type=Path, help="a model.pt")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="mynet.py, model.onnx, model.pt2")
    parser.add_argument("--target", help="the deployment target that the file is for (default: by the ending of FILE)")


def run(options: argparse.Namespace) -> Answer:
    """Export."""
    from medsearch.exporters.checkpoint import load_model
    from medsearch.pipeline.export import export_checkpoint

    said = export_checkpoint(load_model(options.model), options.out, target=options.target)
    return Answer(data={"file": str(options.out), "about": said}, show=lambda: print(said))
