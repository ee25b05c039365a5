"""Splits for sets that come without: stratified by class, whole groups, no copy of an image on two sides."""

from __future__ import annotations

import hashlib

import numpy as np

from medsearch.core.errors import DataError
from medsearch.data.dataset import Split, check_counts

HELD_OUT = 0.15
SEED = 0


def complete(splits: dict[str, Split], *, where: str) -> tuple[Split, Split, Split, tuple[str, ...]]:
    """Train, val and test, the missing ones split off train, and a note that says so."""
    for name, split in splits.items():
        check_counts(split, where=f"{where}: {name}")
    missing = [name for name in ("val", "test") if name not in splits]
    if not missing:
        return splits["train"], splits["val"], splits["test"], ()
    shares = (1 - HELD_OUT * len(missing), *[HELD_OUT] * len(missing))
    splits = splits | dict(zip(("train", *missing), divide(splits["train"], shares, where=where), strict=True))
    how = "by class" if _has_labels(splits["train"]) else "at random"
    if splits["train"].groups is not None:
        how += ", whole groups"
    note = f"{' and '.join(missing)} split off train: {HELD_OUT:.0%} each, {how}, seed {SEED}"
    return splits["train"], splits["val"], splits["test"], (note,)


def divide(split: Split, shares: tuple[float, ...], *, where: str) -> tuple[Split, ...]:
    """Deal the images out in the given shares; the same images always give the same parts.

    A unit is what must stay together: the images of one group, and images that are equal pixel by pixel.  Units are
    dealt from the largest to the smallest (equal ones in a seeded order), each to the part that is furthest from its
    share of the unit's classes, counting half of the unit as already there (Webster's rule of apportionment).
    """
    classes_N = split.targets if _has_labels(split) else np.zeros(len(split))
    stratum_N = np.unique(classes_N, return_inverse=True)[1]
    unit_N = _units(split)
    counts_UK = np.zeros((unit_N.max() + 1, stratum_N.max() + 1))
    np.add.at(counts_UK, (unit_N, stratum_N), 1)
    if len(counts_UK) < len(shares):
        problem = f"{len(counts_UK)} independent images or groups cannot be divided into {len(shares)} splits."
        raise DataError(where, problem, "Add images, or provide the splits.")
    part_U = _deal(counts_UK, np.array(shares))
    return tuple(split.take(np.flatnonzero(part_U[unit_N] == part)) for part in range(len(shares)))


def image_hashes(images: np.ndarray) -> np.ndarray:
    """(N,) texts: equal pixels give equal hashes."""
    return np.array([hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest() for image in images])


def _has_labels(split: Split) -> bool:
    """Whether every image has a class."""
    return split.targets.ndim == 1 and split.targets.dtype.kind in "iu"


def _units(split: Split) -> np.ndarray:
    """(N,) numbers from 0: images that share a group or all pixels, directly or through others, get the same one."""
    unit_N = np.arange(len(split))
    keys = [image_hashes(split.images)] + ([] if split.groups is None else [split.groups])
    inverses = [np.unique(key, return_inverse=True)[1] for key in keys]
    while True:
        before_N = unit_N
        for inverse_N in inverses:
            least = np.full(len(split), len(split))
            np.minimum.at(least, inverse_N, unit_N)
            unit_N = least[inverse_N]
        if np.array_equal(before_N, unit_N):
            return np.unique(unit_N, return_inverse=True)[1]


def _deal(counts_UK: np.ndarray, shares_P: np.ndarray) -> np.ndarray:
    """(U,) the part each unit goes to; no part stays empty."""
    size_U, total_K = counts_UK.sum(axis=1), np.maximum(counts_UK.sum(axis=0), 1)
    need_PK = shares_P[:, None] * total_K
    full_PK = need_PK.copy()
    shuffled = np.random.default_rng(SEED).permutation(len(counts_UK))
    part_U = np.full(len(counts_UK), -1)
    filled_P = np.zeros(len(shares_P), bool)
    for dealt, unit in enumerate(shuffled[np.argsort(-size_U[shuffled], kind="stable")]):
        count_K = counts_UK[unit]
        score_P = ((need_PK - count_K / 2) / full_PK) @ count_K
        if len(counts_UK) - dealt <= (~filled_P).sum():
            score_P[filled_P] = -np.inf
        part = int(score_P.argmax())
        part_U[unit], filled_P[part] = part, True
        need_PK[part] -= count_K
    return part_U
