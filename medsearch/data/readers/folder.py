"""Reads a folder with one sub-folder of images for each class.

Layouts: ``root/<class>/...`` (split 70 / 15 / 15 here), or ``root/train/<class>/...`` with ``val`` and ``test`` beside
it, where each of these two may be missing.  A folder inside a class is a group, such as a patient, who may have images
in several classes: what is split here keeps each group, and copies of an image, in one split.  Hidden files and other
kinds of files are skipped.

Pixels: grey images stay grey (16 bits and float: float32), all others become RGB; where both kinds meet, all are RGB.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medsearch.core.errors import DataError
from medsearch.data.dataset import Dataset, Split
from medsearch.data.readers import READERS
from medsearch.data.splits import complete
from medsearch.tasks import ClassLabels, task_type

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_SPLITS = ("train", "val", "test")
_USUAL = "classification"
_DEEP_GREY = ("I", "F", "I;16", "I;16B", "I;16L")


class _Image(NamedTuple):
    path: Path
    label: int
    group: str | None
    pixels: np.ndarray


@READERS.add("folder")
class FolderReader:
    """Folders that are there."""

    TAKES = "a folder of classes"

    def claims(self, source: str) -> bool:
        return Path(source).is_dir()

    def read(self, source: str, *, task: str | None = None) -> Dataset:
        return read(Path(source), task=task)


def read(root: Path, *, task: str | None = None) -> Dataset:
    """The data set in this folder, for classification or another task that asks for a class of each image."""
    if not root.is_dir():
        raise DataError(str(root), "no such folder.")
    task = task or _USUAL
    if not isinstance(task_type(task).TARGET, ClassLabels):
        raise DataError(str(root), f"a folder of classes is for {_USUAL}, not {task}.", "Use an npz file for it.")
    named = [name for name in _SPLITS if (root / name).is_dir()]
    beside = [folder.name for folder in _folders(root) if folder.name not in _SPLITS]
    if named and ("train" not in named or beside):
        problem = f"expected train and perhaps val and test, got {', '.join(named + beside)}."
        raise DataError(str(root), problem, "Rename or move what does not belong there.")
    folders = {name: root / name for name in named} or {"train": root}
    classes = tuple(folder.name for folder in _folders(folders["train"]))
    if not classes:
        raise DataError(str(folders["train"]), "holds no folders of classes.", "Expected <class>/<image>.")
    images = {name: _read_images(folder, classes) for name, folder in folders.items()}
    train, val, test, notes = complete(_stack(images), where=str(root))
    return Dataset(
        name=root.resolve().name,
        source=str(root),
        task=task,
        dims=2,
        channels=train.images.shape[1],
        size=train.images.shape[2:],
        classes=classes,
        notes=notes,
        train=train,
        val=val,
        test=test,
    )


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _read_images(root: Path, classes: tuple[str, ...]) -> list[_Image]:
    images = []
    for folder in _folders(root):
        if folder.name not in classes:
            raise DataError(str(folder), f"is a class that train does not have; train has {', '.join(classes)}.")
        paths = list(_image_files(folder))
        if not paths:
            raise DataError(str(folder), "holds no images.", f"Read are {', '.join(SUFFIXES)}; or remove the folder.")
        for path in paths:
            group = path.parent.relative_to(folder).as_posix() if path.parent != folder else None
            images.append(_Image(path, classes.index(folder.name), group, _read_pixels(path)))
    return images


def _image_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _read_pixels(path: Path) -> np.ndarray:
    """(C, H, W): one channel for grey, three for all else."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                raise DataError(str(path), f"holds {frames} pages, expected one.", "Store volumes in an npz file.")
            upright = ImageOps.exif_transpose(image)
            if upright.mode in _DEEP_GREY:
                return np.asarray(upright).astype(np.float32)[None]
            if upright.mode in ("1", "L", "LA"):
                return np.asarray(upright.convert("L"))[None]
            return np.ascontiguousarray(np.moveaxis(np.asarray(upright.convert("RGB")), -1, 0))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        remedy = "Remove the file, or store it as PNG."
        raise DataError(str(path), f"cannot be read as an image: {error}", remedy) from error


def _stack(named: dict[str, list[_Image]]) -> dict[str, Split]:
    """One array for each split: one size, one number of channels, one type for all."""
    everything = [image for images in named.values() for image in images]
    for image in everything:
        _check_alike(everything[0], image)
    channels = max(len(image.pixels) for image in everything)
    grouped = any(image.group is not None for image in everything)
    return {name: _stack_split(images, channels=channels, grouped=grouped) for name, images in named.items()}


def _stack_split(images: list[_Image], *, channels: int, grouped: bool) -> Split:
    return Split(
        images=np.stack([np.broadcast_to(image.pixels, (channels, *image.pixels.shape[1:])) for image in images]),
        targets=np.array([image.label for image in images], np.int64),
        groups=np.array([image.group or str(image.path) for image in images]) if grouped else None,
    )


def _check_alike(first: _Image, image: _Image) -> None:
    (height, width), (other_height, other_width) = first.pixels.shape[1:], image.pixels.shape[1:]
    if (height, width) != (other_height, other_width):
        problem = f"is {width} x {height} pixels, but {image.path} is {other_width} x {other_height}."
        raise DataError(str(first.path), problem, "Crop, pad or resize all images to one size first.")
    if first.pixels.dtype != image.pixels.dtype:
        problem = f"holds {first.pixels.dtype} pixels, but {image.path} holds {image.pixels.dtype}."
        raise DataError(str(first.path), problem, "Store all images with the same depth: 8 bits, or 16 bits grey.")
