"""What is to be learnt of an image: the shape and type of targets, how files hold them, and what is wrong with them.

Shapes: N images, C channels, S the spatial axes, K outputs of a network.  Arrays are numpy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from medsearch.core.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Target(ABC):
    """The targets of a task.

    Args:
        key: how files call them: an npz file holds ``train_<key>``.
        one: what people call one of them.
    """

    key: str
    one: str = "target"
    classes: ClassVar[bool] = False
    """Whether they are numbers of classes, which have names."""
    counted: ClassVar[str] = "images"
    """What is counted for each class."""
    image: ClassVar[bool] = False
    """Whether they are images, stored as the images are."""

    @abstractmethod
    def shape(self, *, channels: int, size: Size, outputs: int) -> Size:
        """Of the target of one image."""

    @abstractmethod
    def dtype(self, images: np.dtype) -> np.dtype:
        """Of targets beside images of this type."""

    @abstractmethod
    def outputs(self, targets: np.ndarray, *, channels: int, classes: int) -> int:
        """How many outputs a network for these targets has."""

    @abstractmethod
    def read(self, found: np.ndarray, *, dims: int, where: str) -> np.ndarray:
        """Targets from the array of numbers that a file holds; images have been laid out as (N, C, *S) before.

        Raises:
            DataError: for an array that cannot be such targets.
        """

    @abstractmethod
    def example(self, count: int, *, channels: int, size: Size, outputs: int, images: np.dtype) -> np.ndarray:
        """Legal targets of ``count`` images, at least ``outputs`` of them, such as probes of memory are made with."""

    def check(self, targets: np.ndarray, *, classes: Sequence[str], where: str) -> None:  # noqa: B027
        """DataError for values that such targets cannot have; shape and type are right."""

    def tensor(self, targets: np.ndarray) -> Tensor:
        """As losses and metrics take them: float32, or int64 where they are numbers of classes."""
        import torch

        return torch.from_numpy(targets).to(torch.int64 if self.classes else torch.float32)


class _Classes(Target):
    classes = True

    def outputs(self, targets: np.ndarray, *, channels: int, classes: int) -> int:
        return classes

    def check(self, targets: np.ndarray, *, classes: Sequence[str], where: str) -> None:
        if not 0 <= targets.min() <= targets.max() < len(classes):
            what = f"labels run from {targets.min()} to {targets.max()}, but there are {len(classes)} classes"
            raise DataError(where, f"{what}: {', '.join(classes)}.", "Labels count up from 0.")

    def example(self, count: int, *, channels: int, size: Size, outputs: int, images: np.dtype) -> np.ndarray:
        shape = (count, *self.shape(channels=channels, size=size, outputs=outputs))
        return (np.arange(np.prod(shape)) % outputs).astype(self.dtype(images)).reshape(shape)


@dataclass(frozen=True, kw_only=True)
class ClassLabels(_Classes):
    """One class for each image: (N,) int64, counted from 0."""

    key: str = "labels"
    one: str = "label"

    def shape(self, *, channels: int, size: Size, outputs: int) -> Size:
        return ()

    def dtype(self, images: np.dtype) -> np.dtype:
        return np.dtype(np.int64)

    def read(self, found: np.ndarray, *, dims: int, where: str) -> np.ndarray:
        """int64 labels (N,), from whole numbers (N,) or (N, 1)."""
        remedy = "One class for each image; several at once (multi-label) are not supported."
        return _class_numbers(found, axes=1, dtype=np.int64, where=where, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class ClassMaps(_Classes):
    """One class for each pixel: (N, *S) uint8, counted from 0."""

    key: str = "masks"
    one: str = "mask"
    counted = "pixels"

    def shape(self, *, channels: int, size: Size, outputs: int) -> Size:
        return size

    def dtype(self, images: np.dtype) -> np.dtype:
        return np.dtype(np.uint8)

    def read(self, found: np.ndarray, *, dims: int, where: str) -> np.ndarray:
        """uint8 masks (N, *S), from whole numbers (N, *S) or (N, *S, 1)."""
        return _class_numbers(found, axes=1 + dims, dtype=np.uint8, where=where)


@dataclass(frozen=True, kw_only=True)
class Images(Target):
    """An image for each image: (N, C, *S), of the same type."""

    key: str = "clean"
    image = True

    def shape(self, *, channels: int, size: Size, outputs: int) -> Size:
        return channels, *size

    def dtype(self, images: np.dtype) -> np.dtype:
        return images

    def outputs(self, targets: np.ndarray, *, channels: int, classes: int) -> int:
        return channels

    def read(self, found: np.ndarray, *, dims: int, where: str) -> np.ndarray:
        return found

    def example(self, count: int, *, channels: int, size: Size, outputs: int, images: np.dtype) -> np.ndarray:
        return np.random.default_rng(0).uniform(0, 255, (count, channels, *size)).astype(images)


@dataclass(frozen=True, kw_only=True)
class Numbers(Target):
    """K real numbers for each image: (N, K) float32."""

    key: str = "values"

    def shape(self, *, channels: int, size: Size, outputs: int) -> Size:
        return (outputs,)

    def dtype(self, images: np.dtype) -> np.dtype:
        return np.dtype(np.float32)

    def outputs(self, targets: np.ndarray, *, channels: int, classes: int) -> int:
        return targets.shape[1] if targets.ndim == 2 else 1

    def read(self, found: np.ndarray, *, dims: int, where: str) -> np.ndarray:
        """float32 (N, K), from real numbers (N,) or (N, K)."""
        if found.ndim not in (1, 2) or found.dtype.kind not in "buif":
            problem = f"expected real numbers (N,) or (N, K), got {found.dtype} of shape {found.shape}."
            raise DataError(where, problem)
        return np.ascontiguousarray(found.reshape(len(found), -1), np.float32)

    def example(self, count: int, *, channels: int, size: Size, outputs: int, images: np.dtype) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((count, outputs)).astype(np.float32)


def _class_numbers(
    numbers: np.ndarray, *, axes: int, dtype: type[np.integer], where: str, remedy: str = ""
) -> np.ndarray:
    if numbers.ndim == axes + 1 and numbers.shape[-1] == 1:
        numbers = numbers[..., 0]
    if numbers.ndim != axes:
        raise DataError(where, f"expected {axes} axes, or one more of length 1, got {numbers.shape}.", remedy)
    if numbers.dtype.kind not in "buif" or not (numbers == np.floor(numbers)).all():
        raise DataError(where, f"expected whole numbers for classes, got other {numbers.dtype} values.")
    most = np.iinfo(dtype).max
    if numbers.size and not 0 <= numbers.min() <= numbers.max() <= most:
        raise DataError(where, f"expected classes 0 to {most}, got {numbers.min()} to {numbers.max()}.")
    return numbers.astype(dtype)
