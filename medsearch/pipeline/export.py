"""``medsearch export``: a model.pt as plain Python or as the file of a deployment target."""

from __future__ import annotations

import keyword
import sys
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
        out: such as ``mynet.py``, which gets its weights beside it, or the file of a target, such as ``model.onnx``.
        target: its name; None finds one by the ending of ``out``.

    Raises:
        MedsearchError: for a name that nothing writes, and for a file that would differ from the model.
    """
    network = checkpoint.build()
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (2, checkpoint.interface.channels, *checkpoint.size)).astype(np.float32)
    if out.suffix == ".py" and target is None:
        _check_name(out)
        facts = {name: round(value, 4) for name, value in checkpoint.scores.items()}
        parts = checkpoint.genotype, checkpoint.interface
        path = write_module(out.parent, *parts, network, images, facts, stem=out.stem)
        return f"{path}: needs only torch; test it with: python {path}"
    name = target or named_by_suffix(out.suffix, where="-o")
    chosen = make_target(name)
    if out.suffix != chosen.suffix:
        raise UsageError("-o", f"the files of '{name}' end in {chosen.suffix}, got '{out.name}'.")
    artifact, found = checked_artifact(network, images, chosen, where=str(out))
    write_bytes(out, artifact)
    return f"{out}: for {name}, {len(artifact):,} bytes, differs from the network by {found:.1e} of the largest output"


def _check_name(out: Path) -> None:
    """Refuse what cannot be imported, or would be imported in place of a library that the file needs."""
    if not out.stem.isidentifier() or keyword.iskeyword(out.stem):
        remedy = "Use letters, digits and underscores, the first one no digit."
        raise UsageError("-o", f"'{out.name}' cannot be imported under its name.", remedy)
    if out.stem in {"torch", *sys.stdlib_module_names}:
        remedy = "Choose another name."
        raise UsageError("-o", f"'{out.name}' would be imported in place of the library '{out.stem}'.", remedy)
