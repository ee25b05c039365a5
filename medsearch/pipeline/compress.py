"""``medsearch compress``: a model.pt to an int8 ONNX file that is measured to be smaller, as fast and as good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from medsearch.backbones import Network
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
    keep_macs: float = 0.7,
    max_drop: float = 1.0,
    epochs: int | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compress ``model`` and write the files; nothing is written if the result is refused.

    Args:
        model: a model.pt.
        data: to prune, distil and judge by; None is the data that the model was trained on.
        keep_macs: share of the multiply-adds to keep.
        max_drop: points of the primary metric that may be lost.
        epochs: of distillation; None for a fifth of the training, at least 4.
        out: folder of the results; None for ``compressed`` beside the model.
        say: told what happens.

    Raises:
        CheckpointError, DataError, UsageError: for wrong input.
        RefusedError: if nothing that was tried is smaller, as fast and as good as allowed.
    """
    checkpoint = load_model(model)
    source = data if data is not None else checkpoint.provenance.get("data")
    if not isinstance(source, str):
        raise UsageError("--data", f"{model} does not say what it was trained on.", "Name the data set.")
    dataset = load(source, task=checkpoint.interface.task)
    _check_fits(checkpoint, dataset, model)
    network = checkpoint.build()
    assert isinstance(network, Network)
    task = make_task(dataset.task, outputs=checkpoint.interface.outputs, dims=dataset.dims)
    config = _settings(checkpoint, keep_macs=keep_macs, max_drop=max_drop, epochs=epochs)
    with torch_threads(default_workers()):
        found = compress(network, checkpoint.genotype, checkpoint.interface, dataset, task, config, say=say)
    results = _results(found, dataset.open_test(), task)
    _write(out or model.parent / "compressed", checkpoint, found, results)
    return results


def _check_fits(checkpoint: Checkpoint, data: Dataset, model: Path) -> None:
    if interface_of(data) != checkpoint.interface or tuple(data.size) != tuple(checkpoint.size):
        raise CheckpointError(
            str(model),
            f"is for {checkpoint.interface} and images of {checkpoint.size}; {data.source} has {interface_of(data)} "
            f"and {data.size}.",
            "Give the data it was trained on with --data.",
        )


def _settings(checkpoint: Checkpoint, *, keep_macs: float, max_drop: float, epochs: int | None) -> CompressionConfig:
    config = CompressionConfig(keep_macs=keep_macs, max_drop=max_drop)
    known = checkpoint.provenance
    trained = known.get("epochs")
    epochs = epochs or (max(4, trained // 5) if isinstance(trained, int) else config.recipe.epochs)
    batch, precision = known.get("batch"), known.get("precision")
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
