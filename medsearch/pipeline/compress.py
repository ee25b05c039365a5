"""``medsearch compress``: a model.pt to an int8 ONNX file that is measured to be smaller, as fast and as good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsearch.compression.compress import Compressed, CompressionConfig, Measured, compress
from medsearch.compression.score import score
from medsearch.core.errors import CheckpointError, UsageError
from medsearch.core.files import write_bytes, write_json, write_text
from medsearch.data import Dataset, Split, load
from medsearch.exporters.checkpoint import Checkpoint, load_model, save_model
from medsearch.measurement.threads import torch_threads
from medsearch.pipeline.results import judged
from medsearch.pipeline.setup import interface_of
from medsearch.report.markdown import compression_summary
from medsearch.tasks import Task, make_task
from medsearch.train.workers import default_workers


def compress_file(
    model: Path,
    *,
    data: str | None = None,
    config: CompressionConfig | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compress a ``model.pt``; see :func:`compress_checkpoint`.  ``out`` is by default ``compressed`` beside it."""
    found = load_model(model)
    return compress_checkpoint(
        found, data=data, config=config, out=out or model.parent / "compressed", name=str(model), say=say
    )


def compress_checkpoint(
    checkpoint: Checkpoint,
    *,
    data: str | None,
    config: CompressionConfig | None,
    out: Path,
    name: str = "model",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compress a network and write the files; nothing is written if the result is refused.

    Args:
        checkpoint: the network.
        data: to prune, distil and judge by; None is the data that it says it was trained on.
        config: what to aim for, and how; None is the defaults.
        out: folder of the results.
        name: of the network, for messages.
        say: told what happens.

    Raises:
        CheckpointError, DataError, UsageError: for wrong input.
        RefusedError: if nothing that was tried is smaller, as fast and as good as allowed.
    """
    source = data if data is not None else checkpoint.provenance.get("data")
    if not isinstance(source, str):
        raise UsageError("--data", f"{name} does not say what it was trained on.", "Name the data set.")
    dataset = load(source, task=checkpoint.interface.task)
    _check_fits(checkpoint, dataset, name)
    network = checkpoint.build()
    task = make_task(dataset.task, outputs=checkpoint.interface.outputs, dims=dataset.dims)
    config = _with_recipe(checkpoint, config or CompressionConfig())
    with torch_threads(default_workers()):
        found = compress(network, checkpoint.genotype, checkpoint.interface, dataset, task, config, say=say)
    results = _results(found, dataset.open_test(), task)
    _write(out, checkpoint, found, results)
    return results


def _check_fits(checkpoint: Checkpoint, data: Dataset, name: str) -> None:
    if interface_of(data) != checkpoint.interface or tuple(data.size) != tuple(checkpoint.size):
        raise CheckpointError(
            name,
            f"is for {checkpoint.interface} and images of {checkpoint.size}; {data.source} has {interface_of(data)} "
            f"and {data.size}.",
            "Give the data it was trained on with --data.",
        )


def _with_recipe(checkpoint: Checkpoint, config: CompressionConfig) -> CompressionConfig:
    """Distil as the network was trained: its batch and precision, and a share of its epochs."""
    known = checkpoint.provenance
    trained, batch, precision = known.get("epochs"), known.get("batch"), known.get("precision")
    epochs = config.epochs or (max(4, trained // 5) if isinstance(trained, int) else config.recipe.epochs)
    recipe = replace(config.recipe, epochs=epochs)
    if isinstance(batch, int) and precision in ("fp32", "bf16"):
        recipe = replace(recipe, batch=batch, precision=str(precision))
    return replace(config, recipe=recipe)


def _results(found: Compressed, test: Split, task: Task) -> dict[str, Any]:
    def side(measured: Measured) -> dict[str, Any]:
        return {
            "bytes": len(measured.onnx),
            "latency_ms": measured.latency.median_ms,
            "metrics": measured.metrics,
            "test": score(measured.onnx, test, task),
        }

    before, after = side(found.before), side(found.after)
    at_test = f"{before['test'][found.primary]:.4g} -> {after['test'][found.primary]:.4g} on test"
    return {
        **judged(task),
        "float": before,
        "int8": after,
        "ratio": found.ratio,
        "size_ratio": 1 / found.size,
        "steps": [{"name": line.split(":")[0], "did": line.split(":", 1)[-1].strip()} for line in found.steps],
        "int8_groups": list(found.int8),
        "float_groups": dict(found.kept),
        "sentence": f"{found.summary()}, {at_test}",
    }


def _write(folder: Path, checkpoint: Checkpoint, found: Compressed, results: dict[str, Any]) -> None:
    write_bytes(folder / "float.onnx", found.before.onnx)
    write_bytes(folder / "int8.onnx", found.after.onnx)
    save_model(
        folder / "model.pt",
        genotype=found.genotype,
        interface=checkpoint.interface,
        size=checkpoint.size,
        model=found.model,
        classes=checkpoint.classes,
        scores={},
        provenance={**checkpoint.provenance, "compressed_from": checkpoint.genotype.id},
    )
    write_json(folder / "compression.json", results)
    write_text(folder / "compression.md", compression_summary(results))
