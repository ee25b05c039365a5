"""What every reader hands over: a checked data set whose test split is sealed until the end.

Shapes: N images, C channels, S the ``dims`` spatial axes (H, W or D, H, W).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from functools import cached_property

import numpy as np

from medsearch.core.errors import DataError, suggest
from medsearch.tasks import TASKS, Target, task_type

_CHUNK = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Images with what is to be learnt of them.

    Args:
        images: (N, C, *S), raw intensities, uint8 or float32.
        targets: (N, ...) as the task wants them (``medsearch.tasks.targets``): classification (N,) int64; segmentation
            (N, *S) uint8; denoising (N, C, *S), clean, of the same dtype.
        groups: (N,) what must not be torn apart, such as a patient or a slide, where known.
    """

    images: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Split:
        """The images at these positions, in this order."""
        groups = None if self.groups is None else self.groups[index]
        return Split(images=self.images[index], targets=self.targets[index], groups=groups)


class _Vault:
    """The test split and whether it was read."""

    def __init__(self, split: Split) -> None:
        self.split, self.opened = split, False


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """One task on one set of images, checked when it is made: every fault is a DataError that says where.

    Args:
        source: the path, or ``embedded:<name>``; ``load(source)`` makes the same data set again.
        size: the spatial size S of one image, in pixels.
        classes: names in the order of their labels; empty where targets are not classes.
        test: handed over once, by ``open_test``.
        notes: what a reader of the scores has to know about this set.
    """

    name: str
    source: str
    task: str
    dims: int
    channels: int
    size: tuple[int, ...]
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: InitVar[Split]
    notes: tuple[str, ...] = ()
    _vault: _Vault = field(init=False, repr=False)

    def __post_init__(self, test: Split) -> None:
        object.__setattr__(self, "_vault", _Vault(test))
        check_task(self.task, where=self.source)
        for name, split in splits_for_checks(self):
            check_counts(split, where=f"{self.source}: {name}")
            _check_images(self, split, where=f"{self.source}: {name}")
            _check_targets(self, split, where=f"{self.source}: {name}")
        if self.target.classes:
            _check_classes(self)

    @property
    def target(self) -> Target:
        """What is to be learnt of an image."""
        return task_type(self.task).TARGET

    @property
    def outputs(self) -> int:
        """How many outputs a network for this set has."""
        return self.target.outputs(self.train.targets, channels=self.channels, classes=len(self.classes))

    def open_test(self) -> Split:
        """The test split, the first time; after that a DataError, so that nothing can be chosen by it."""
        if self._vault.opened:
            remedy = "Compare candidates on the val split; the test split is for the one that was chosen."
            raise DataError(self.source, "the test split is read once, and it has been read.", remedy)
        self._vault.opened = True
        return self._vault.split

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the train images; the deviation of a constant one is 1."""
        return self._mean_std

    @cached_property
    def _mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        images_NCS = self.train.images
        axes = (0, *range(2, images_NCS.ndim))
        mean_C = images_NCS.mean(axis=axes, dtype=np.float64)
        square_C = np.zeros_like(mean_C)
        for chunk_NCS in _chunks(images_NCS):
            centred = chunk_NCS - mean_C.reshape(-1, *[1] * self.dims)
            square_C += np.square(centred).sum(axis=axes)
        std_C = np.sqrt(square_C * self.channels / images_NCS.size)
        constant_C = std_C <= 1e-6 * np.abs(mean_C)
        return tuple(mean_C.tolist()), tuple(np.where(constant_C, 1.0, std_C).tolist())

    def fingerprint(self) -> dict[str, object]:
        """What tells this set from another, ready for JSON: counts, size, intensities of train, hash of the content.

        ``per_class`` counts images, or pixels where each of them has a class.
        """
        splits = splits_for_checks(self)
        mean, std = self.mean_std()
        return {
            "name": self.name,
            "task": self.task,
            "dims": self.dims,
            "channels": self.channels,
            "size": list(self.size),
            "classes": list(self.classes),
            "images": {name: len(split) for name, split in splits},
            "groups": {name: count_groups(split) for name, split in splits},
            "per_class": {name: per_class(self, split) for name, split in splits},
            "mean": list(mean),
            "std": list(std),
            "sha256": self._sha256,
            "notes": list(self.notes),
        }

    @cached_property
    def _sha256(self) -> str:
        digest = hashlib.sha256(repr((self.task, self.size, self.classes)).encode())
        for _, split in splits_for_checks(self):
            for array in (split.images, split.targets):
                digest.update(f"{array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
            digest.update(repr(None if split.groups is None else split.groups.tolist()).encode())
        return digest.hexdigest()[:16]


def splits_for_checks(dataset: Dataset) -> tuple[tuple[str, Split], ...]:
    """Train, val and test with their names, for counts and leak checks; the test split stays sealed for scoring."""
    return ("train", dataset.train), ("val", dataset.val), ("test", dataset._vault.split)


def check_task(task: str, *, where: str) -> None:
    """DataError unless this is a task we know."""
    if task not in TASKS:
        remedy = f"{suggest(task, TASKS)}  A task of your own package: medsearch --plugin yourpackage.module ..."
        raise DataError(where, f"unknown task '{task}'.", remedy)


def check_counts(split: Split, *, where: str) -> None:
    """DataError unless there are images, and a target and a group for each."""
    if len(split) == 0:
        raise DataError(where, "holds no images.")
    for array, what in ((split.targets, "targets"), (split.groups, "groups")):
        if array is not None and len(array) != len(split):
            raise DataError(where, f"{len(split)} images, but {len(array)} {what}.")
    if split.groups is not None and split.groups.ndim != 1:
        raise DataError(where, f"expected one group for each image, got groups of shape {_by(split.groups.shape)}.")


def count_groups(split: Split) -> int | None:
    """How many patients, slides or the like; None where nobody said."""
    return None if split.groups is None else len(np.unique(split.groups))


def per_class(dataset: Dataset, split: Split) -> dict[str, int]:
    """Images, or pixels, of each class; empty where targets are not classes."""
    counts = np.bincount(split.targets.ravel(), minlength=len(dataset.classes)) if dataset.classes else ()
    return {name: int(count) for name, count in zip(dataset.classes, counts, strict=True)}


def _chunks(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK))


def _check_images(dataset: Dataset, split: Split, *, where: str) -> None:
    if split.images.dtype not in (np.uint8, np.float32):
        raise DataError(where, f"expected images of type uint8 or float32, got {split.images.dtype}.")
    expected, seen = (dataset.channels, *dataset.size), split.images.shape[1:]
    if seen != expected:
        what = f"images are {_by(expected)} (channels x size) in train, but {_by(seen)} here."
        raise DataError(where, what, "Bring all splits to one size and one number of channels.")
    for array, what in ((split.images, "image"), (split.targets, "target")):
        _check_finite(array, what, where=where)


def _check_finite(array: np.ndarray, what: str, *, where: str) -> None:
    if array.dtype.kind != "f":
        return
    for start, chunk in zip(range(0, len(array), _CHUNK), _chunks(array), strict=True):
        bad_N = ~np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)
        if bad_N.any():
            problem = f"{what} {start + int(bad_N.argmax())} (counted from 0) holds NaN or infinite values."
            raise DataError(where, problem, "Replace them, or leave such images out.")


def _check_targets(dataset: Dataset, split: Split, *, where: str) -> None:
    target, targets = dataset.target, split.targets
    shape = target.shape(channels=dataset.channels, size=dataset.size, outputs=dataset.outputs)
    if targets.shape != (expected := (len(split), *shape)):
        what = f"{dataset.task} needs targets of shape {_by(expected)} for these images, got {_by(targets.shape)}."
        raise DataError(where, what)
    if targets.dtype != (wanted := target.dtype(split.images.dtype)):
        raise DataError(where, f"{dataset.task} needs targets of type {wanted}, got {targets.dtype}.")
    target.check(targets, classes=dataset.classes, where=where)


def _check_classes(dataset: Dataset) -> None:
    if len(dataset.classes) < 2:
        raise DataError(dataset.source, f"{dataset.task} needs two classes or more, got {len(dataset.classes)}.")
    (_, train), *others = ((name, per_class(dataset, split)) for name, split in splits_for_checks(dataset))
    for label, name in enumerate(dataset.classes):
        if train[name] == 0:
            elsewhere = [other for other, counts in others if counts[name]]
            seen = f"it occurs in {' and '.join(elsewhere)} only" if elsewhere else "it occurs nowhere"
            remedy = "Move some of its images to train, or leave the class out and number the rest from 0."
            raise DataError(dataset.source, f"class '{name}' (label {label}) is empty in train; {seen}.", remedy)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
