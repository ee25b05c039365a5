"""Networks from Python: made, opened, compressed, exported, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medsearch.api.result import CompressionResult
from medsearch.backbones import Interface, Network, build
from medsearch.core.config import read_yaml
from medsearch.core.errors import SpaceError, UsageError
from medsearch.core.library import find
from medsearch.exporters.checkpoint import Checkpoint, load_model
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Estimate
from medsearch.pipeline.alone import measure_alone
from medsearch.pipeline.compress import compress_checkpoint
from medsearch.pipeline.export import export_checkpoint
from medsearch.spaces import Genotype, load_space
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target
from medsearch.tasks import head_tasks, task_type
from medsearch.train import TrainingRecipe

Model = str | Path | Network
"""A ``model.pt``, or a network of :func:`load` or :func:`create_model`, perhaps trained further."""


def load(model: str | Path, *, num_classes: int | None = None) -> Network:
    """The network of a ``model.pt`` with its weights, in eval mode, on the CPU.

    Its ``features(images)`` gives the maps of all stages, its ``feature_info`` their channels and strides; ``card``
    says what it is (genotype, classes, scores, where it comes from).

    Args:
        model: a ``model.pt``, or the folder that holds it.
        num_classes: for fine-tuning on other classes, how many there are: the weights of the head that depend on it
            are then fresh.

    Raises:
        CheckpointError: for anything that is not a complete ``model.pt`` of this version.
    """
    path = Path(model)
    checkpoint = load_model(path / "model.pt" if path.is_dir() else path)
    network = checkpoint.build(outputs=num_classes)
    same = num_classes in (None, checkpoint.interface.outputs)
    outputs = checkpoint.interface.outputs if num_classes is None else num_classes
    interface = replace(checkpoint.interface, outputs=outputs)
    classes, scores = (checkpoint.classes, checkpoint.scores) if same else ((), {})
    return _with_card(network, replace(checkpoint, interface=interface, classes=classes, scores=scores, state={}))


def create_model(
    architecture: str | Genotype | Mapping[str, Any],
    *,
    num_classes: int,
    channels: int = 1,
    task: str = "classification",
    size: Sequence[int] | None = None,
) -> Network:
    """A network with fresh weights.

    Args:
        architecture: the name or file of a space without choices, such as ``"swin-t"``; a genotype; or one as plain
            data, as ``results.json`` and ``model.pt`` hold it.
        num_classes: outputs; a denoiser has as many as channels.
        channels: of the images.
        task: what it is for.
        size: spatial size of its images, which exporting and measuring need; None is said there.

    Raises:
        SpaceError: for an architecture that does not exist, that has choices left, or that cannot be built.
    """
    genotype = _genotype(architecture, task)
    interface = Interface(task=task, channels=channels, outputs=num_classes)
    network = build(genotype, interface, where=str(architecture) if isinstance(architecture, str) else "genotype")
    card = Checkpoint(
        genotype=genotype,
        interface=interface,
        size=tuple(size or ()),
        classes=(),
        scores={},
        provenance={},
        state={},
    )
    return _with_card(network, card)


def _genotype(architecture: str | Genotype | Mapping[str, Any], task: str) -> Genotype:
    if isinstance(architecture, Genotype):
        return architecture
    if isinstance(architecture, Mapping):
        return Genotype.from_data(dict(architecture))
    heads = read_yaml(find("spaces", architecture)).get("heads")
    if isinstance(heads, dict) and set(head_tasks(task)).isdisjoint(heads):
        raise SpaceError(architecture, f"has no head for {task}.", f"It has some for {', '.join(heads)}.")
    space = load_space(architecture, task=task, like=task_type(task).HEAD_LIKE)
    if space.size() > 1:
        problem = f"leaves {len(space.genes())} choices open, so it is no single network."
        remedy = f"Take one of it: create_model(load_space('{architecture}').sample(random.Random(0)), ...)"
        raise SpaceError(architecture, problem, remedy)
    return space.first()


def compress(
    model: Model,
    data: str | Path | None = None,
    config: Any = None,
    *,
    out: str | Path | None = None,
) -> CompressionResult:
    """Prune, distil and quantize a network to an int8 ONNX file that is measured to be smaller, faster and as good.

    Args:
        model: what is compressed.
        data: to prune, distil and judge by; None is the data that the model says it was trained on.
        config: a :class:`~medsearch.CompressionConfig`; None is its defaults.
        out: folder of the results; None is ``compressed`` beside a ``model.pt``.

    Raises:
        RefusedError: if nothing that was tried is smaller, as fast and as good as allowed; then nothing is written.
    """
    checkpoint, folder = _opened(model)
    target = Path(out) if out is not None else folder and folder / "compressed"
    if target is None:
        raise UsageError("medsearch.compress", "where should the files go?", "Name a folder: out='compressed'.")
    source = None if data is None else str(data)
    return CompressionResult(target, compress_checkpoint(checkpoint, data=source, config=config, out=target))


def export(model: Model, out: str | Path, *, size: Sequence[int] | None = None, target: str | None = None) -> Path:
    """Write a network as one plain Python file (``.py``, with its weights beside it) or for a target, and check it.

    Args:
        model: what is written.
        out: the file.
        size: spatial size of its images, where the network does not say it.
        target: the deployment target; None finds it by the ending of ``out``, such as ``.onnx``.

    Raises:
        RefusedError: if what would be written computes something else.
        UsageError: for another kind of file.
    """
    checkpoint, _ = _opened(model, size=size)
    export_checkpoint(checkpoint, Path(out), target=target)
    return Path(out)


def measure(
    model: Model,
    *,
    size: Sequence[int] | None = None,
    batch: int = 32,
    precision: str = "fp32",
    target: str = DEFAULT,
    threads: int = 1,
) -> dict[str, Estimate]:
    """What a network costs on this machine, by the name of the cost: measured, with units and intervals.

    Args:
        model: what is measured; trained or not makes no difference.
        size: spatial size of its images, where the network does not say it.
        batch, precision: images of a training step, and ``"fp32"`` or ``"bf16"``, for its memory.
        target, threads: that the exported file is timed on.

    Raises:
        MedsearchError: for a target that does not exist, or that this machine cannot run.
    """
    checkpoint, _ = _opened(model, size=size)
    chosen = make_target(target, threads)
    artifact = chosen.export(checkpoint.build(), torch.zeros(1, checkpoint.interface.channels, *checkpoint.size))
    recipe = TrainingRecipe(epochs=1, batch=batch, precision=precision)
    profile = Profile(threads=threads, target=target)
    return measure_alone(checkpoint, profile, recipe=recipe, images="float32", artifact=artifact)


def _opened(model: Model, *, size: Sequence[int] | None = None) -> tuple[Checkpoint, Path | None]:
    """What a model is, with its weights as they are now, and the folder it lies in."""
    if isinstance(model, str | Path):
        path = Path(model)
        path = path / "model.pt" if path.is_dir() else path
        checkpoint, folder = load_model(path), path.parent
    else:
        card = getattr(model, "card", None)
        if not isinstance(card, Checkpoint):
            problem = f"a {type(model).__name__} does not say what it is."
            raise UsageError("model", problem, "Give a model.pt, or a network of medsearch.load or create_model.")
        checkpoint, folder = replace(card, state=model.state_dict()), None
    if size is not None:
        checkpoint = replace(checkpoint, size=tuple(size))
    if not checkpoint.size:
        raise UsageError("model", "does not say the size of its images.", "Give it: size=(64, 64).")
    return checkpoint, folder


def _with_card(network: Network, card: Checkpoint) -> Network:
    """The network with what it is; a plain attribute, no part of its state."""
    object.__setattr__(network, "card", card)
    return network
