"""The sample that comes with the package: real voxels, honest splits, not too easy."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medsearch.core.errors import DataError
from medsearch.data import check
from medsearch.data.dataset import Dataset
from medsearch.data.readers import embedded

FULL_NAMES = [name for name in embedded.known() if "-" in name]


@pytest.fixture(scope="module")
def sets() -> dict[str, Dataset]:
    return {name: embedded.read(name) for name in FULL_NAMES}


@pytest.mark.parametrize("name", FULL_NAMES)
def test_a_name_says_dimensions_and_task(sets: dict[str, Dataset], name: str):
    sample = sets[name]
    assert (sample.name, sample.source) == (name, f"embedded:{name}")
    assert name == f"brain{sample.dims}d-{sample.task}"
    assert sample.train.images.dtype == np.uint8
    assert len(sample.train) > len(sample.val) >= 32
    assert sample.notes == embedded.NOTES


@pytest.mark.parametrize("name", FULL_NAMES)
def test_nothing_leaks_and_nothing_is_odd(sets: dict[str, Dataset], name: str):
    assert [finding for finding in check(sets[name]) if finding.level != "info"] == []


@pytest.mark.parametrize("name", FULL_NAMES)
def test_blocks_of_different_splits_are_apart(sets: dict[str, Dataset], name: str):
    named = {"train": sets[name].train, "val": sets[name].val, "test": embedded.read(name).open_test()}
    spans = sorted(
        (*map(int, block.removesuffix(" mm").split("-")), split)
        for split, part in named.items()
        for block in np.unique(part.groups)
    )
    assert {split for *_, split in spans} == {"train", "val", "test"}
    for (_, stop, split), (start, _, other) in zip(spans, spans[1:], strict=False):
        assert split != other
        assert start - stop >= 4


def test_reading_twice_gives_the_same_bytes(sets: dict[str, Dataset]):
    for name in ("brain2d-classification", "brain3d-segmentation"):
        assert embedded.read(name).fingerprint() == sets[name].fingerprint()


@pytest.mark.parametrize("dims", [2, 3])
def test_classes_are_balanced_and_class_means_do_not_tell_them_apart(sets: dict[str, Dataset], dims: int):
    sample = sets[f"brain{dims}d-classification"]
    assert len(set(sample.fingerprint()["per_class"]["train"].values())) == 1
    train, val = (part.images.reshape(len(part), -1).astype(np.float64) for part in (sample.train, sample.val))
    means = np.stack([train[sample.train.targets == label].mean(axis=0) for label in range(4)])
    nearest = np.argmin(((val[:, None] - means) ** 2).sum(axis=2), axis=1)
    assert 0.25 < (nearest == sample.val.targets).mean() < 0.7


@pytest.mark.parametrize("dims", [2, 3])
def test_white_matter_is_brighter_than_grey_and_grey_than_background(sets: dict[str, Dataset], dims: int):
    part = sets[f"brain{dims}d-segmentation"].val
    for image, target in zip(part.images[:, 0], part.targets, strict=True):
        means = [image[target == label].mean() for label in np.unique(target)]
        assert means == sorted(means)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_centre_of_a_patch_looks_like_its_class(sets: dict[str, Dataset], dims: int):
    """Brightness of the 4-pixel centre against the brightest of the patch: fluid < grey < mixed < white, on average."""
    part = sets[f"brain{dims}d-classification"].train
    centre = part.images[(slice(None), 0, *[slice(14, 18)] * dims)].reshape(len(part), -1).mean(axis=1)
    relative = centre / np.percentile(part.images.reshape(len(part), -1), 98, axis=1)
    means = [relative[part.targets == label].mean() for label in (0, 1, 3, 2)]
    assert means == sorted(means)
    assert min(np.diff(means)) > 0.05


@pytest.mark.parametrize("dims", [2, 3])
def test_noise_outside_the_brain_follows_rayleighs_law(sets: dict[str, Dataset], dims: int):
    """Rician noise of a zero signal: mean sigma * sqrt(pi / 2), mean square 2 sigma^2, with sigma = 25."""
    part = sets[f"brain{dims}d-denoising"].train
    noise = part.images[part.targets == 0].astype(np.float64)
    assert len(noise) > 50_000
    assert noise.mean() == pytest.approx(25 * np.sqrt(np.pi / 2), rel=0.01)
    assert np.square(noise).mean() == pytest.approx(2 * 25**2, rel=0.02)


def test_the_clean_image_is_made_of_voxels_of_the_template(sets: dict[str, Dataset]):
    """Every row of the patches of one block is found in an axial slice between 10 and 43 mm of the template."""
    folder = Path(find_spec("nilearn").origin).parent
    file = folder / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    slices_ZYX = np.asarray(nibabel.load(file).dataobj).T[10:44]
    windows = np.lib.stride_tricks.sliding_window_view(slices_ZYX, 64, axis=2).reshape(-1, 64)
    rows = {row.tobytes() for row in windows}
    part = sets["brain2d-denoising"].train
    patches = part.targets[part.groups == "10-44 mm", 0]
    assert len(patches) > 50
    assert all(row.tobytes() in rows for patch in patches for row in patch)


def test_the_short_name_takes_the_task():
    assert embedded.read("brain2d", task="denoising").name == "brain2d-denoising"
    assert embedded.read("brain2d").name == "brain2d-classification"


@pytest.mark.parametrize(
    ("name", "task", "said"),
    [
        ("brain2d-segmentation", "denoising", "is for segmentation, not denoising.\n  Use brain2d-denoising"),
        ("brain4d", None, "no such embedded set.\n  Did you mean 'brain"),
    ],
)
def test_a_wrong_name_is_answered_with_a_right_one(name: str, task: str | None, said: str):
    with pytest.raises(DataError, match=said):
        embedded.read(name, task=task)


def test_without_nilearn_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install nilearn"):
        embedded.read("brain2d")


def test_reading_imports_no_heavy_library():
    code = (
        "import sys; from medsearch.data import load; early = 'nibabel' in sys.modules; load();"
        "print(early, [name for name in ('nilearn', 'sklearn', 'pandas', 'torch') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False []\n"
