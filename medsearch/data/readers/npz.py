"""Reads one ``.npz`` file in the layout of MedMNIST.

Keys, for each of ``train``, ``val`` and ``test``:

* ``train_images``: (N, H, W), (N, H, W, C), (N, D, H, W) or (N, D, H, W, C).  A last axis of 4 or less is channels;
  what looks like channels first is refused, not guessed.  uint8 stays, all other numbers become float32;
* the target, by the name that its task gives it: ``train_labels``, (N,) or (N, 1), classes numbered from 0 without
  gaps; ``train_masks``, (N, *S) or (N, *S, 1), the same for pixels, where masks of only 0 and 255 are read as 0 and 1;
  ``train_clean``, for denoising, images like ``train_images`` without the noise; or that of a plugin's task;
* ``train_groups``, optional: (N,) patients, slides or the like.

``class_names`` (or ``classes``), optional: (K,) texts.  Other keys are not read, and nothing pickled ever is.  Missing
val or test images are split off train: 15 % each, by class, whole groups, copies of an image together.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsearch.core.errors import DataError
from medsearch.data.dataset import Dataset, Split
from medsearch.data.readers import READERS
from medsearch.data.splits import complete
from medsearch.tasks import TASKS, Target, task_type

_USUAL = "classification"
_MOST_CHANNELS = 4


@READERS.add("npz")
class NpzReader:
    """Files whose name ends in ``.npz``."""

    TAKES = "an .npz file"

    def claims(self, source: str) -> bool:
        return Path(source).suffix == ".npz" and not Path(source).is_dir()

    def read(self, source: str, *, task: str | None = None) -> Dataset:
        return read(Path(source), task=task)


def read(path: Path, *, task: str | None = None) -> Dataset:
    """The data set in this file; ``task`` is needed only where the file holds targets of more than one kind."""
    if not path.is_file():
        raise DataError(str(path), "no such file.")
    if not zipfile.is_zipfile(path):
        raise DataError(str(path), "is not an npz file, or not a whole one.", "Write it with numpy.savez_compressed.")
    with np.load(path, allow_pickle=False) as arrays:
        file = _File(path=path, arrays=arrays)
        task = task or file.only_task()
        target = task_type(task).TARGET
        named = [name for name in ("train", "val", "test") if name == "train" or file.has(f"{name}_images")]
        splits = {name: _read_split(file, name, target) for name in named}
        if target.counted == "pixels":
            splits = _scale_masks(splits)
        classes = _class_names(file, splits) if target.classes else ()
    train, val, test, notes = complete(splits, where=str(path))
    channels, *size = train.images.shape[1:]
    return Dataset(
        name=path.stem,
        source=str(path),
        task=task,
        dims=len(size),
        channels=channels,
        size=tuple(size),
        classes=classes,
        notes=notes,
        train=train,
        val=val,
        test=test,
    )


@dataclass(frozen=True, kw_only=True)
class _File:
    """An open npz file that says what is wrong with it."""

    path: Path
    arrays: Any

    def has(self, key: str) -> bool:
        return key in self.arrays.files

    def __getitem__(self, key: str) -> np.ndarray:
        if not self.has(key):
            raise DataError(str(self.path), f"has no {key}.", f"Keys seen: {', '.join(self.arrays.files) or '(none)'}.")
        try:
            array = self.arrays[key]
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            remedy = "Pickled objects are not read; store plain numbers and texts." if "pickle" in str(error) else ""
            raise DataError(self.where(key), f"cannot be read: {error}", remedy) from error
        if not isinstance(array, np.ndarray):
            raise DataError(self.where(key), "is not a numpy array.", "Write the file with numpy.savez_compressed.")
        return array

    def where(self, key: str) -> str:
        return f"{self.path}: {key}"

    def only_task(self) -> str:
        tasks = [task for task in TASKS if self.has(f"train_{task_type(task).TARGET.key}")]
        if len(tasks) > 1:
            raise DataError(str(self.path), f"holds targets for {' and '.join(tasks)}.", "Say which task is meant.")
        return tasks[0] if tasks else _USUAL


def _read_split(file: _File, name: str, target: Target) -> Split:
    images = _channels_first(_pixels(file, f"{name}_images"), where=file.where(f"{name}_images"))
    key = f"{name}_{target.key}"
    found = _channels_first(_pixels(file, key), where=file.where(key)) if target.image else file[key]
    targets = target.read(found, dims=images.ndim - 2, where=file.where(key))
    if target.image:
        dtype = np.result_type(images, targets)
        images, targets = images.astype(dtype, copy=False), targets.astype(dtype, copy=False)
    groups = file[f"{name}_groups"] if file.has(f"{name}_groups") else None
    return Split(images=images, targets=targets, groups=groups)


def _pixels(file: _File, key: str) -> np.ndarray:
    pixels = file[key]
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "buif":
        raise DataError(file.where(key), f"expected real numbers, got {pixels.dtype}.")
    if pixels.dtype.kind == "f" and pixels.itemsize > 4 and (np.abs(pixels) > np.finfo(np.float32).max).any():
        raise DataError(file.where(key), "holds infinite values, or numbers too large for float32.")
    return pixels.astype(np.uint8 if pixels.dtype.kind == "b" else np.float32)


def _channels_first(images: np.ndarray, *, where: str) -> np.ndarray:
    """(N, C, *S) from the layouts at the top of this file."""
    if not 3 <= images.ndim <= 5:
        remedy = "Expected N x H x W (x C) or N x D x H x W (x C)."
        raise DataError(where, f"cannot tell the layout of shape {images.shape}.", remedy)
    channels_last = images.ndim == 5 or (images.ndim == 4 and images.shape[-1] <= _MOST_CHANNELS)
    if images.ndim >= 4 and images.shape[1] <= _MOST_CHANNELS < images.shape[-1]:
        what = f"shape {images.shape} looks like channels before the pixels; they come last in this layout."
        remedy = "Store numpy.moveaxis(images, 1, -1); a volume this thin needs a last axis of 1 for its channel."
        raise DataError(where, what, remedy)
    return np.ascontiguousarray(np.moveaxis(images, -1, 1)) if channels_last else images[:, None]


def _scale_masks(splits: dict[str, Split]) -> dict[str, Split]:
    """Masks drawn in black and white, 0 and 255, become classes 0 and 1."""
    if not np.array_equal(_labels_seen(splits), (0, 255)):
        return splits
    return {name: replace(split, targets=split.targets // 255) for name, split in splits.items()}


def _labels_seen(splits: dict[str, Split]) -> np.ndarray:
    return np.unique(np.concatenate([np.unique(split.targets) for split in splits.values()]))


def _class_names(file: _File, splits: dict[str, Split]) -> tuple[str, ...]:
    for key in ("class_names", "classes"):
        if file.has(key):
            names = file[key]
            if names.ndim != 1 or len(set(names.tolist())) < len(names):
                raise DataError(file.where(key), f"expected one name for each class, all different, got {names}.")
            return tuple(str(name) for name in names.tolist())
    seen = _labels_seen(splits)
    if not np.array_equal(seen, np.arange(len(seen))):
        some = ", ".join(map(str, seen[:10])) + (", ..." if len(seen) > 10 else "")
        raise DataError(str(file.path), f"classes must count up from 0 without gaps, got {some}.", "Number them anew.")
    return tuple(f"class {label}" for label in seen)
