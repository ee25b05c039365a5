"""``medsearch export``: a model.pt as plain Python or as ONNX."""

from __future__ import annotations

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
    if out.name != "backbone.py":
        raise UsageError("-o", f"expected backbone.py or a name ending in .onnx, got '{out.name}'.")
    facts = {name: round(value, 4) for name, value in checkpoint.scores.items()}
    path = write_module(out.parent, checkpoint.genotype, checkpoint.interface, network, images, facts)
    return f"{path}: needs only torch; test it with: python {path}"
