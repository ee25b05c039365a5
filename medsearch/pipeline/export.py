"""``medsearch export``: a model.pt as plain Python or as ONNX."""

from __future__ import annotations

import keyword
import sys
from pathlib import Path

import numpy as np

from medsearch.core.errors import RefusedError, UsageError
from medsearch.core.files import write_bytes
from medsearch.exporters.checkpoint import Checkpoint
from medsearch.exporters.module import write_module
from medsearch.exporters.onnx import check_onnx, to_onnx
from medsearch.pipeline.deliver import ONNX_TOLERANCE


def export_checkpoint(checkpoint: Checkpoint, out: Path) -> str:
    """Write ``out`` (``.py`` with its weights beside it, or ``.onnx``), check it against the model, say how it went."""
    network = checkpoint.build()
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, checkpoint.interface.channels, *checkpoint.size)).astype(np.float32)
    if out.suffix == ".onnx":
        onnx = to_onnx(network, checkpoint.size, checkpoint.interface.channels)
        difference = check_onnx(onnx, network, images)
        if difference > ONNX_TOLERANCE:
            raise RefusedError(str(out), f"the ONNX file would differ from the network by {difference:.2g}.")
        write_bytes(out, onnx)
        return f"{out}: ONNX, {len(onnx):,} bytes, differs from the network by {difference:.1e} of the largest output"
    _check_name(out)
    facts = {name: round(value, 4) for name, value in checkpoint.scores.items()}
    path = write_module(out.parent, checkpoint.genotype, checkpoint.interface, network, images, facts, stem=out.stem)
    return f"{path}: needs only torch; test it with: python {path}"


def _check_name(out: Path) -> None:
    """Refuse what cannot be imported, or would be imported in place of a library that the file needs."""
    if out.suffix != ".py":
        raise UsageError(
            "-o", f"expected a name ending in .py or .onnx, got '{out.name}'.", "For example: -o backbone.py"
        )
    if not out.stem.isidentifier() or keyword.iskeyword(out.stem):
        remedy = "Use letters, digits and underscores, the first one no digit."
        raise UsageError("-o", f"'{out.name}' cannot be imported under its name.", remedy)
    if out.stem in {"torch", *sys.stdlib_module_names}:
        raise UsageError(
            "-o", f"'{out.name}' would be imported in place of the library '{out.stem}'.", "Choose another."
        )
