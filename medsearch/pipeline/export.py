"""``medsearch export``: a model.pt as plain Python or as the file of a deployment target."""

from __future__ import annotations

import keyword
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from medsearch.core.errors import CheckpointError, UsageError
from medsearch.core.files import write_bytes
from medsearch.exporters.checkpoint import Checkpoint, load_model
from medsearch.exporters.module import write_module
from medsearch.pipeline.artifact import checked_artifact
from medsearch.targets.target import make_target, named_by_suffix


def export_checkpoint(checkpoint: Checkpoint, out: Path, *, target: str | None = None) -> str:
    """Write ``out``, check it against the model, and say how it went.

    Args:
        checkpoint: of the model.
        out: a file that ends in ``.py``, which gets its weights beside it, or that of a target, such as ``model.onnx``.
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
        path = write_module(
            out.parent, checkpoint.genotype, checkpoint.interface, network, images, facts, stem=out.stem
        )
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
        raise UsageError(
            "-o", f"'{out.name}' would be imported in place of the library '{out.stem}'.", "Choose another."
        )
    if _is_checkpoint(weights := out.with_suffix(".pt")):
        problem = f"the weights of '{out.name}' would replace {weights}, which is a trained network."
        raise UsageError("-o", problem, "Choose another name or folder.")


def _is_checkpoint(path: Path) -> bool:
    with suppress(CheckpointError):
        load_model(path)
        return True
    return False
