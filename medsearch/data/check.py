"""Finds what makes scores on a data set lie: leaks between splits, rare classes, images without content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from medsearch.data.dataset import Dataset, Split, per_class, splits_for_checks
from medsearch.data.splits import image_hashes
from medsearch.tasks import task_type

NEAR_SIDE = 8
NEAR_CORRELATION = 0.98
RARE_RATIO = 5

_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence about a data set.

    Args:
        level: ``error``: scores cannot be trusted; ``warning``: look at it; ``info``: good to know.
    """

    level: Literal["error", "warning", "info"]
    message: str


def check(dataset: Dataset) -> list[Finding]:
    """Everything found, the worst first; the test split is looked at for leaks, and stays sealed for scoring."""
    found = [*_balance(dataset), *_constant(dataset), *_groups(dataset), *_copies(dataset), *_near_copies(dataset)]
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.level))


def _balance(dataset: Dataset) -> Iterator[Finding]:
    """Ratio of the largest to the smallest class in train, and classes that val or test lack."""
    if not dataset.classes:
        return
    unit, better = dataset.target.counted, task_type(dataset.task).BALANCED
    counts = per_class(dataset, dataset.train)
    (few, smallest), *_, (many, largest) = sorted((count, name) for name, count in counts.items())
    message = f"train holds from {few} {unit} ('{smallest}') to {many} ('{largest}') of a class"
    if few == many:
        message = f"train holds {few} {unit} of each class"
    if many > RARE_RATIO * few:
        message = f"{message}, {many / few:.1f} times as many"
        message += f"; accuracy alone flatters, read {better}" if better else ""
        yield Finding(level="warning", message=message)
    else:
        yield Finding(level="info", message=message)
    for name, split in splits_for_checks(dataset)[1:]:
        for empty in (label for label, count in per_class(dataset, split).items() if count == 0):
            yield Finding(level="warning", message=f"class '{empty}' is not in {name}, so no score speaks of it")


def _constant(dataset: Dataset) -> Iterator[Finding]:
    for name, split in splits_for_checks(dataset):
        flat_NF = split.images.reshape(len(split), -1)
        constant = np.flatnonzero(flat_NF.max(axis=1) == flat_NF.min(axis=1))
        if len(constant):
            message = f"{_share(len(constant), split)} in {name} have one value everywhere, first image {constant[0]}"
            yield Finding(level="warning", message=message)


def _groups(dataset: Dataset) -> Iterator[Finding]:
    for (name, split), (other_name, other) in combinations(splits_for_checks(dataset), 2):
        if split.groups is not None and other.groups is not None:
            shared = np.intersect1d(split.groups, other.groups)
            if len(shared):
                message = f"{len(shared)} groups are both in {name} and {other_name}, such as '{shared[0]}'"
                yield Finding(level="error", message=message)
    if dataset.train.groups is None:
        yield Finding(level="info", message="no groups known: images of one patient in two splits would not be noticed")


def _copies(dataset: Dataset) -> Iterator[Finding]:
    """Images that are equal pixel by pixel: across splits, and in train, where their labels may contradict."""
    hashes = {name: image_hashes(split.images) for name, split in splits_for_checks(dataset)}
    for (name, split), (other_name, _) in combinations(reversed(splits_for_checks(dataset)), 2):
        copies = np.flatnonzero(np.isin(hashes[name], hashes[other_name]))
        if len(copies):
            what = f"{_share(len(copies), split)} in {name} are exact copies of images in {other_name}"
            yield Finding(level="error", message=f"{what}, first image {copies[0]}")
    distinct, inverse_N = np.unique(hashes["train"], return_inverse=True)
    if len(distinct) < len(dataset.train):
        message = f"{_share(len(dataset.train) - len(distinct), dataset.train)} in train repeat another one exactly"
        yield Finding(level="info", message=message)
    targets_N = np.unique(image_hashes(dataset.train.targets), return_inverse=True)[1]
    contradictions = np.unique(np.stack([inverse_N, targets_N]), axis=1).shape[1] - len(distinct)
    if contradictions:
        message = f"{contradictions} images in train occur with more than one {dataset.target.one}"
        yield Finding(level="warning", message=message)


def _near_copies(dataset: Dataset) -> Iterator[Finding]:
    """Images that look like one of another split, exact copies left out.

    Compared are averages over 8 x 8 (x 8) cells, each image shifted to mean 0 and scaled to norm 1, less the mean of
    all images (which takes out what they share, such as a round field of view): a correlation above 0.98 counts.
    """
    splits = splits_for_checks(dataset)
    thumbs = {name: _thumbs(split.images) for name, split in splits}
    common_F = np.concatenate(list(thumbs.values())).mean(axis=0)
    details = {name: _unit((thumb - common_F) * thumb.any(axis=1, keepdims=True)) for name, thumb in thumbs.items()}
    for (name, split), (other_name, other) in combinations(reversed(splits), 2):
        near_N = _nearest(details[name], details[other_name]) > NEAR_CORRELATION
        near = np.flatnonzero(near_N & ~np.isin(image_hashes(split.images), image_hashes(other.images)))
        if len(near):
            what = f"{_share(len(near), split)} in {name} look like one in {other_name}, first image {near[0]}"
            how = f"correlation above {NEAR_CORRELATION} at {' x '.join([str(NEAR_SIDE)] * dataset.dims)} pixels"
            yield Finding(level="warning", message=f"{what} ({how})")


def _thumbs(images_NCS: np.ndarray) -> np.ndarray:
    """(N, F) the channel mean averaged over NEAR_SIDE cells of each axis, mean 0 and norm 1; zeros where constant."""
    blocks = (images_NCS[start : start + _BLOCK] for start in range(0, len(images_NCS), _BLOCK))
    flat_NF = np.concatenate([_shrink(block).reshape(len(block), -1) for block in blocks])
    return _unit(flat_NF - flat_NF.mean(axis=1, keepdims=True))


def _shrink(images_NCS: np.ndarray) -> np.ndarray:
    small_NS = images_NCS.mean(axis=1, dtype=np.float32)
    for axis in range(1, small_NS.ndim):
        length = small_NS.shape[axis]
        edges = np.arange(min(NEAR_SIDE, length)) * length // min(NEAR_SIDE, length)
        widths = np.diff(edges, append=length).reshape([-1 if axis == other else 1 for other in range(small_NS.ndim)])
        small_NS = np.add.reduceat(small_NS, edges, axis=axis) / widths.astype(np.float32)
    return small_NS


def _unit(rows_NF: np.ndarray) -> np.ndarray:
    norm_N1 = np.linalg.norm(rows_NF, axis=1, keepdims=True)
    return np.divide(rows_NF, norm_N1, out=np.zeros_like(rows_NF), where=norm_N1 > 1e-6)


def _nearest(rows_NF: np.ndarray, others_MF: np.ndarray) -> np.ndarray:
    """(N,) the largest correlation of each row with any of the others."""
    blocks = (rows_NF[start : start + _BLOCK] for start in range(0, len(rows_NF), _BLOCK))
    return np.concatenate([(block @ others_MF.T).max(axis=1) for block in blocks])


def _share(count: int, split: Split) -> str:
    return f"{count} of {len(split)} images ({count / len(split):.1%})"
