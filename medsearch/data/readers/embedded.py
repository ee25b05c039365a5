"""A sample to start with, no download: patches of one MR brain, for the first command and for demonstrations.

The brain is the ICBM 2009a symmetric T1 template (skull-stripped, 1 mm, uint8) with its maps of grey and white matter,
read from the files inside the ``nilearn`` package (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033).

**One brain, averaged over 152 people: a demonstration, not evidence.**  Scores on it say that a network learns, not how
well it would do on patients.  What is ours:

* the two halves of the template are mirror images, voxel by voxel, so patches are centred in one half only;
* splits are blocks of axial slices (2D, 8 mm between them) or coronal slabs (3D, 4 mm), never random patches;
* an average is free of noise and MR intensities carry no unit, so each patch is scaled by its own gain (uniform, 0.5 to
  1) and gets Rician noise, sqrt((v + a)^2 + b^2) with a, b ~ N(0, sigma), sigma 12 of 255; denoising: gain 1, sigma 25;
* labels are thresholds of the maps.  Segmentation: the largest of grey, white and the rest, where *background* is all
  outside the brain and the fluid inside.  Classification: the mean over the 4-pixel square or cube at the centre of the
  patch, where *mixed* is grey and white in about equal parts (their boundary, the deep nuclei).

Axes of a volume: Z from below to above, Y from front to back, X from one side to the other; 1 voxel = 1 mm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from medsearch.core.errors import DataError, suggest
from medsearch.data.dataset import Dataset, Split
from medsearch.data.readers import READERS

DEFAULT = "brain2d"
NOTES = ("one averaged brain with simulated gain and noise: a demonstration, not evidence",)

_PREFIX = "embedded:"
_SEED = 152
_FILES = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_BOX = (slice(0, 156), slice(25, 207), slice(10, 131))  # ZYX: the brain, up to 42 mm beyond the midline
_MIDLINE_X = 98 - _BOX[2].start
_LEAST_GAIN, _SIGMA, _SIGMA_DENOISING = 0.5, 12.0, 25.0
_CENTRES = ("fluid", "grey", "white", "mixed")
_TISSUES = ("background", "grey", "white")
_CLASSES = {"classification": _CENTRES, "segmentation": _TISSUES, "denoising": ()}

_Blocks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How a volume is cut: blocks [start, stop) of ``axis`` in mm; no patch leaves its block.

    Args:
        side: edge of a patch in mm, by task.
        counts: patches in train, val and test, by task.
    """

    axis: int
    train: _Blocks
    val: _Blocks
    test: _Blocks
    side: dict[str, int]
    counts: dict[str, tuple[int, int, int]]


_PLANS = {
    2: _Plan(
        axis=0,
        train=((10, 44), (84, 116)),
        val=((52, 60), (124, 132)),
        test=((68, 76), (140, 148)),
        side={"classification": 32, "segmentation": 64, "denoising": 64},
        counts={"classification": (1600, 400, 400), "segmentation": (320, 80, 80), "denoising": (320, 80, 80)},
    ),
    3: _Plan(
        axis=1,
        train=((0, 50), (134, 182)),
        val=((54, 90),),
        test=((94, 130),),
        side={"classification": 32, "segmentation": 32, "denoising": 32},
        counts={"classification": (200, 80, 80), "segmentation": (96, 32, 32), "denoising": (96, 32, 32)},
    ),
}


@dataclass(frozen=True, kw_only=True)
class _Brain:
    """The volumes in the box around the brain, axes ZYX, uint8; grey and white matter as shares of 255."""

    t1: np.ndarray
    grey: np.ndarray
    white: np.ndarray

    @property
    def fluid(self) -> np.ndarray:
        """What is inside the brain and neither grey nor white matter, as a share of 255."""
        return np.where(self.t1 > 0, 255 - self.grey - self.white, 0).astype(np.uint8)


def known() -> tuple[str, ...]:
    """What ``read`` knows: ``brain2d``, ``brain2d-classification``, ..., ``brain3d-denoising``."""
    return tuple(f"brain{dims}d{task}" for dims in _PLANS for task in ("", *(f"-{task}" for task in _CLASSES)))


def claims(source: str) -> bool:
    """Whether ``source`` names an embedded sample, with or without ``embedded:`` before it."""
    return source.startswith(_PREFIX) or source in known()


@READERS.add("embedded")
class EmbeddedReader:
    """Names, not paths."""

    TAKES = "the name of an embedded set"

    def claims(self, source: str) -> bool:
        return claims(source)

    def read(self, source: str, *, task: str | None = None) -> Dataset:
        return read(source.removeprefix(_PREFIX), task=task)


def read(name: str, *, task: str | None = None) -> Dataset:
    """The sample of that name; ``brain2d`` and ``brain3d`` alone take the task from ``task``, else classification."""
    where = f"embedded:{name}"
    if name not in known():
        raise DataError(where, "no such embedded set.", suggest(name, known()))
    brain, _, own_task = name.partition("-")
    if task and own_task not in ("", task):
        raise DataError(where, f"is for {own_task}, not {task}.", f"Use {brain}-{task}.")
    if task is not None and task not in _CLASSES:
        raise DataError(where, f"has no targets for {task}.", f"It has those for {', '.join(_CLASSES)}.")
    own_task, dims = own_task or task or next(iter(_CLASSES)), int(brain[-2])
    train, val, test = _splits(_read_brain(where), dims, own_task)
    return Dataset(
        name=f"{brain}-{own_task}",
        source=f"embedded:{brain}-{own_task}",
        task=own_task,
        dims=dims,
        channels=1,
        size=train.images.shape[2:],
        classes=_CLASSES[own_task],
        notes=NOTES,
        train=train,
        val=val,
        test=test,
    )


def _read_brain(where: str) -> _Brain:
    """From the files of the package, which is not imported: that would cost seconds."""
    import nibabel

    package = find_spec("nilearn")
    if package is None or package.origin is None:
        raise DataError(where, "the package nilearn, which holds the images, is not installed.", "pip install nilearn")
    folder = Path(package.origin).parent / "datasets" / "data"
    volumes = []
    for kind in ("t1", "gm", "wm"):
        path = folder / _FILES.format(kind)
        if not path.is_file():
            raise DataError(where, f"this version of nilearn has no file {path.name}.", "pip install nilearn==0.14.1")
        volume_XYZ = np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)
        volumes.append(np.ascontiguousarray(volume_XYZ.transpose(2, 1, 0)[:, ::-1][_BOX]))
    return _Brain(t1=volumes[0], grey=volumes[1], white=volumes[2])


def _splits(brain: _Brain, dims: int, task: str) -> Iterator[Split]:
    """Train, val and test, each from its own blocks and its own random stream."""
    plan = _PLANS[dims]
    kind_ZYX = _centre_kinds(brain, dims) if task == "classification" else np.where(brain.t1 > 0, 0, -1)
    for part, blocks in enumerate((plan.train, plan.val, plan.test)):
        rng = np.random.default_rng([_SEED, dims, [*_CLASSES].index(task), part])
        allowed_ZYX = _allowed(brain.t1.shape, plan, blocks, dims=dims, side=plan.side[task])
        centre_N3 = _draw(np.where(allowed_ZYX, kind_ZYX, -1), plan.counts[task][part], rng)
        group_N = _block_names(centre_N3[:, plan.axis], blocks)
        clean_NCS = _crop(brain.t1, centre_N3, dims=dims, side=plan.side[task])[:, None]
        if task == "denoising":
            noisy_NCS = _acquire(clean_NCS, np.ones(len(clean_NCS)), _SIGMA_DENOISING, rng)
            yield Split(images=noisy_NCS, targets=clean_NCS, groups=group_N)
            continue
        noisy_NCS = _acquire(clean_NCS, rng.uniform(_LEAST_GAIN, 1.0, len(clean_NCS)), _SIGMA, rng)
        if task == "classification":
            targets = kind_ZYX[tuple(centre_N3.T)]
        else:
            targets = _crop(_tissues(brain), centre_N3, dims=dims, side=plan.side[task])
        yield Split(images=noisy_NCS, targets=targets, groups=group_N)


def _tissues(brain: _Brain) -> np.ndarray:
    """ZYX, uint8: 0 background and fluid, 1 grey, 2 white matter, whichever has the largest share."""
    rest = 255 - brain.grey - brain.white
    label = np.where(brain.white > np.maximum(rest, brain.grey), 2, brain.grey > rest)
    return np.where(brain.t1 > 0, label, 0).astype(np.uint8)


def _centre_kinds(brain: _Brain, dims: int) -> np.ndarray:
    """ZYX, int64: the class of a patch centred here, -1 where it would be doubtful."""
    axes = range(3 - dims, 3)
    fluid, grey, white = (_mean_of_four(share, axes) for share in (brain.fluid, brain.grey, brain.white))
    kind = np.full(brain.t1.shape, -1)
    for label, clear in enumerate((fluid > 0.5, grey > 0.85, white > 0.85, np.minimum(grey, white) > 0.35)):
        kind[clear] = label
    return kind


def _mean_of_four(share_ZYX: np.ndarray, axes: range) -> np.ndarray:
    """Fraction 0-1 over the window [i-2, i+2) of each axis, which is the centre of the patch [i-side/2, i+side/2)."""
    total = share_ZYX.astype(np.uint16)
    for axis in axes:
        pair = total + np.roll(total, 1, axis)
        total = np.roll(pair, 1, axis) + np.roll(pair, -1, axis)
    return total / np.float32(255 * 4 ** len(axes))


def _allowed(shape: tuple[int, ...], plan: _Plan, blocks: _Blocks, *, dims: int, side: int) -> np.ndarray:
    """ZYX, bool: where a patch may be centred so that it stays in the volume, in its block and in one half."""
    allowed = np.ones(shape, bool)
    for axis, length in enumerate(shape):
        reach = side // 2 if axis >= 3 - dims else 0
        position = np.arange(length)
        spans = blocks if axis == plan.axis else ((0, _MIDLINE_X + reach if axis == 2 else length),)
        ends = position + max(reach, 1)
        inside = np.any([(position - reach >= start) & (ends <= stop) for start, stop in spans], axis=0)
        allowed &= inside.reshape([-1 if axis == other else 1 for other in range(3)])
    return allowed


def _draw(kind_ZYX: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) centres, equally many of each kind (-1: none), in random order."""
    kinds = kind_ZYX.max() + 1
    picked = [rng.choice(np.flatnonzero(kind_ZYX == kind), count // kinds, replace=False) for kind in range(kinds)]
    return np.stack(np.unravel_index(rng.permutation(np.concatenate(picked)), kind_ZYX.shape), axis=1)


def _block_names(position_N: np.ndarray, blocks: _Blocks) -> np.ndarray:
    block_N = np.searchsorted([start for start, _ in blocks], position_N, side="right") - 1
    return np.array([f"{start}-{stop} mm" for start, stop in blocks])[block_N]


def _crop(volume_ZYX: np.ndarray, centre_N3: np.ndarray, *, dims: int, side: int) -> np.ndarray:
    """(N, *S): squares of an axial slice or cubes, ``side`` voxels wide."""
    half = side // 2
    boxes = ([slice(i - half, i + half) for i in centre[3 - dims :]] for centre in centre_N3)
    return np.stack([volume_ZYX[(*centre[: 3 - dims], *box)] for centre, box in zip(centre_N3, boxes, strict=True)])


def _acquire(clean_NCS: np.ndarray, gain_N: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """As a magnitude image would show it: scaled, with Rician noise, rounded to uint8."""
    scaled = clean_NCS * gain_N.astype(np.float32).reshape(-1, *[1] * (clean_NCS.ndim - 1))
    real, imaginary = (rng.standard_normal(scaled.shape, np.float32) * np.float32(sigma) for _ in range(2))
    return np.sqrt(np.square(scaled + real) + np.square(imaginary)).round().clip(0, 255).astype(np.uint8)
