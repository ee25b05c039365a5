"""``medsearch export``: a model.pt as plain Python or as the file of a deployment target."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsearch.core.errors import UsageError
from medsearch.core.files import write_bytes
from medsearch.exporters.checkpoint import Checkpoint
from medsearch.exporters.module import write_module
from medsearch.pipeline.artifact import checked_artifact
from medsearch.targets.target import make_target, named_by_suffix


def export_checkpoint(checkpoint: Checkpoint, out: Path, *, target: str | None = None) -> str:
    """Write ``out``, check it against the model, and say how it went.

    Args:
        checkpoint: of the model.
        out: ``backbone.py``, which gets its weights beside it, or the file of a target, such as ``model.onnx``.
        target: its name; None finds one by the ending of ``out``.

    Raises:
        MedsearchError: for a name that nothing writes, and for a file that would differ from the model.
    """
    network = checkpoint.build()
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, checkpoint.interface.channels, *checkpoint.size)).astype(np.float32)
    if out.suffix == ".py" and target is None:
        if out.name != "backbone.py":
            raise UsageError("-o", f"plain Python is written as backbone.py, got '{out.name}'.")
        facts = {name: round(value, 4) for name, value in checkpoint.scores.items()}
        path = write_module(out.parent, checkpoint.genotype, checkpoint.interface, network, images, facts)
        return f"{path}: needs only torch; test it with: python {path}"
    name = target or named_by_suffix(out.suffix, where="-o")
    chosen = make_target(name)
    if out.suffix != chosen.suffix:
        raise UsageError("-o", f"the files of '{name}' end in {chosen.suffix}, got '{out.name}'.")
    artifact, found = checked_artifact(network, images, chosen, where=str(out))
    write_bytes(out, artifact)
    return f"{out}: for {name}, {len(artifact):,} bytes, differs from the network by {found:.1e} of the largest output"
