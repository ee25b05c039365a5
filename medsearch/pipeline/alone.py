"""One network measured by itself: without a run, and without the data it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medsearch.data import Dataset, Split
from medsearch.exporters.checkpoint import Checkpoint
from medsearch.measurement.device import Profile
from medsearch.measurement.estimate import Estimate
from medsearch.measurement.latency.parts import PartTimes
from medsearch.measurement.threads import torch_threads
from medsearch.pipeline.measurement import measure
from medsearch.pipeline.setup import is_timed
from medsearch.tasks import make_task, task_type
from medsearch.train import TrainingRecipe


def measure_alone(
    checkpoint: Checkpoint,
    profile: Profile,
    *,
    recipe: TrainingRecipe,
    images: str,
    artifact: bytes,
    names: Sequence[str] | None = None,
) -> dict[str, Estimate]:
    """What a network costs on this machine, by the name of the cost; the timing is added to ``profile``.

    Args:
        checkpoint: the network.
        profile: of the target that runs it.
        recipe: of a training step.
        images: type of their values, such as ``"uint8"``.
        artifact: the exported file.
        names: of the costs; None for all that can be measured.
    """
    interface = checkpoint.interface
    task = make_task(interface.task, outputs=interface.outputs, dims=len(checkpoint.size))
    with torch_threads(1):
        timing = PartTimes(profile).latency(artifact) if names is None or is_timed(names) else None
        data = blank(checkpoint, images)
        return measure(checkpoint.build(), data, task, recipe, artifact=artifact, timing=timing, names=names)


def blank(checkpoint: Checkpoint, images: str) -> Dataset:
    """A data set of empty images that the model takes: what a step needs depends on shapes and types alone."""
    task, size = checkpoint.interface.task, checkpoint.size
    channels, outputs = checkpoint.interface.channels, checkpoint.interface.outputs
    images_NCS = np.zeros((outputs, channels, *size), images)
    targets = task_type(task).TARGET.example(
        outputs, channels=channels, size=size, outputs=outputs, images=images_NCS.dtype
    )
    split = Split(images=images_NCS, targets=targets)
    return Dataset(
        name="blank",
        source="blank",
        task=task,
        dims=len(size),
        channels=channels,
        size=size,
        classes=checkpoint.classes or tuple(map(str, range(outputs))),
        train=split,
        val=split,
        test=split,
    )
