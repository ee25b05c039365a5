"""The MedMNIST layout: what each shape means, and what is refused with a reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsearch.core.errors import DataError
from medsearch.data.readers import npz

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def arrays(**changes: Any) -> dict[str, Any]:
    """A small two-class set; a change to None takes the key away."""
    made = {
        "train_images": pixels(12, 5, 6),
        "train_labels": np.arange(12)[:, None] % 2,
        "val_images": pixels(4, 5, 6),
        "val_labels": np.arange(4)[:, None] % 2,
        "test_images": pixels(6, 5, 6),
        "test_labels": np.arange(6)[:, None] % 2,
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def write(tmp_path: Path, made: dict[str, Any]) -> Path:
    path = tmp_path / "toy.npz"
    np.savez(path, **made)
    return path


@pytest.mark.parametrize(
    ("shape", "channels", "size"),
    [
        ((5, 6), 1, (5, 6)),
        ((5, 6, 1), 1, (5, 6)),
        ((5, 6, 3), 3, (5, 6)),
        ((5, 6, 4), 4, (5, 6)),
        ((5, 6, 7), 1, (5, 6, 7)),
        ((5, 6, 7, 1), 1, (5, 6, 7)),
        ((5, 6, 7, 9), 9, (5, 6, 7)),
        ((3, 6, 7, 1), 1, (3, 6, 7)),
    ],
)
def test_the_shape_says_dimensions_and_channels(tmp_path: Path, shape: tuple[int, ...], channels: int, size: tuple):
    images = {f"{name}_images": pixels(count, *shape) for name, count in (("train", 12), ("val", 4), ("test", 6))}
    toy = npz.read(write(tmp_path, arrays(**images)))
    assert (toy.dims, toy.channels, toy.size) == (len(size), channels, size)
    assert toy.train.images.shape == (12, channels, *size)
    spatial = [shape[axis] for axis in range(len(size))]
    channel_last = images["train_images"].reshape(12, *spatial, channels)
    assert np.array_equal(toy.train.images[:, channels - 1], channel_last[..., channels - 1])


@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (12, 1, 8, 9), (12, 2, 8, 8, 8)])
def test_channels_first_is_refused_and_not_read_as_a_thin_volume(tmp_path: Path, shape: tuple[int, ...]):
    with pytest.raises(DataError, match=r"train_images: shape .* looks like channels before the pixels"):
        npz.read(write(tmp_path, arrays(train_images=pixels(*shape))))


def test_official_splits_and_labels_are_kept(tmp_path: Path):
    made = arrays(test_labels=np.array([0, 1, 1, 1, 0, 1]), class_names=np.array(["benign", "malignant"]))
    toy = npz.read(write(tmp_path, made))
    assert (toy.name, toy.task, toy.classes, toy.notes) == ("toy", "classification", ("benign", "malignant"), ())
    assert toy.train.targets.dtype == np.int64
    assert toy.open_test().targets.tolist() == [0, 1, 1, 1, 0, 1]


def test_classes_without_names_are_numbered(tmp_path: Path):
    assert npz.read(write(tmp_path, arrays())).classes == ("class 0", "class 1")


@pytest.mark.parametrize(
    ("dtype", "kept"), [(np.uint8, np.uint8), (bool, np.uint8), (np.uint16, np.float32), (np.float64, np.float32)]
)
def test_bytes_stay_bytes_and_other_numbers_become_float32(tmp_path: Path, dtype: type, kept: type):
    images = pixels(12, 5, 6).astype(dtype)
    others = {"val_images": images[:4], "test_images": images[:6]}
    toy = npz.read(write(tmp_path, arrays(train_images=images, **others)))
    assert toy.train.images.dtype == kept
    assert np.array_equal(toy.train.images[:, 0], images)


def masks(**changes: np.ndarray) -> dict[str, Any]:
    made = {f"{name}_masks": RNG.integers(0, 2, (n, 5, 6)) for name, n in (("train", 12), ("val", 4), ("test", 6))}
    return arrays(**{f"{name}_labels": None for name in ("train", "val", "test")}) | made | changes


def test_masks_make_a_segmentation_task(tmp_path: Path):
    made = masks()
    toy = npz.read(write(tmp_path, made))
    assert (toy.task, toy.train.targets.dtype) == ("segmentation", np.uint8)
    assert np.array_equal(toy.train.targets, made["train_masks"])


def test_black_and_white_masks_become_zero_and_one_even_where_a_split_is_all_black(tmp_path: Path):
    drawn = {key: (value * 255)[..., None] for key, value in masks().items() if key.endswith("masks")}
    toy = npz.read(write(tmp_path, masks(**drawn | {"val_masks": np.zeros((4, 5, 6, 1), int)})))
    assert np.array_equal(toy.train.targets, drawn["train_masks"][..., 0] // 255)
    assert toy.val.targets.max() == 0
    assert toy.classes == ("class 0", "class 1")


def test_clean_images_make_a_denoising_task_with_one_type(tmp_path: Path):
    made = {f"{name}_labels": None for name in ("train", "val", "test")}
    clean = {f"{name}_clean": RNG.random((n, 5, 6)) for name, n in (("train", 12), ("val", 4), ("test", 6))}
    toy = npz.read(write(tmp_path, arrays(**made, **clean)))
    assert (toy.task, toy.classes) == ("denoising", ())
    assert toy.train.images.dtype == toy.train.targets.dtype == np.float32
    assert np.allclose(toy.train.targets[:, 0], clean["train_clean"])


def test_missing_splits_are_cut_from_train_with_whole_groups(tmp_path: Path):
    made = {
        "train_images": pixels(100, 5, 6),
        "train_labels": np.arange(100) % 2,
        "train_groups": np.array([f"p{number // 4}" for number in range(100)]),
    }
    toy = npz.read(write(tmp_path, made))
    test = toy.open_test()
    assert (len(toy.train), len(toy.val), len(test)) == (68, 16, 16)
    assert not set(toy.train.groups) & set(toy.val.groups) | set(toy.train.groups) & set(test.groups)
    assert toy.fingerprint()["notes"] == ["val and test split off train: 15% each, by class, whole groups, seed 0"]


def test_labels_and_masks_together_need_the_task(tmp_path: Path):
    path = write(tmp_path, arrays() | {key: value for key, value in masks().items() if key.endswith("masks")})
    with pytest.raises(DataError, match="holds targets for classification and segmentation.\n  Say which task"):
        npz.read(path)
    assert npz.read(path, task="segmentation").task == "segmentation"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train_images": None}, "has no train_images.\n  Keys seen: train_labels, val_images"),
        ({"train_labels": None}, "has no train_labels.\n  Keys seen: train_images, val_images"),
        ({"test_labels": None}, "has no test_labels"),
        ({"train_labels": np.zeros((12, 14), int)}, r"several at once \(multi-label\) are not supported"),
        ({"train_labels": np.arange(11) % 2}, "toy.npz: train: 12 images, but 11 targets"),
        ({"train_labels": np.zeros(12, int)}, r"'class 1' \(label 1\) is empty in train; .* in val and test only"),
        ({"train_labels": np.arange(12) % 2 * 2}, r"class 'class 1' \(label 1\) is empty in train"),
        ({"train_labels": np.arange(12) % 2 - 1}, "train_labels: expected classes 0 to .*, got -1 to 0"),
        ({"train_labels": np.arange(12) / 2}, "train_labels: expected whole numbers"),
        ({"train_labels": np.array([["a"], ["b"]] * 6)}, "train_labels: expected whole numbers"),
        ({"train_labels": np.array([0, None] * 6)}, "train_labels: cannot be read: .*\n  Pickled objects are not read"),
        ({"test_labels": np.full(6, 5)}, "classes must count up from 0 without gaps, got 0, 1, 5"),
        ({"class_names": np.array(["a", "a"])}, "class_names: expected one name for each class, all different"),
        ({"classes": np.array(["a", "b", "c"])}, "class 'c' .* occurs nowhere"),
        ({"train_images": pixels(0, 5, 6)}, "train: holds no images"),
        ({"train_images": pixels(12, 30)}, r"train_images: cannot tell the layout of shape \(12, 30\)"),
        ({"train_images": np.full((12, 5, 6), np.nan)}, "train: image 0 .* holds NaN or infinite"),
        ({"train_images": np.full((12, 5, 6), 1e300)}, "train_images: holds infinite values, or numbers too large"),
        ({"train_images": np.ones((12, 5, 6), complex)}, "train_images: expected real numbers, got complex128"),
        ({"val_images": pixels(4, 5, 7)}, "val: images are 1 x 5 x 6 .* in train, but 1 x 5 x 7 here"),
    ],
)
def test_a_fault_is_named_with_its_key(tmp_path: Path, change: dict[str, Any], said: str):
    with pytest.raises(DataError, match=said):
        npz.read(write(tmp_path, arrays(**change)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val_masks": np.zeros((4, 5, 7), int)}, "val: .* needs targets of shape 4 x 5 x 6 .* got 4 x 5 x 7"),
        ({"train_masks": RNG.choice([0, 128, 255], (12, 5, 6))}, "classes must count up .* got 0, 1, 128, 255"),
        ({"train_masks": np.full((12, 5, 6), 300)}, "train_masks: expected classes 0 to 255, got 300 to 300"),
        ({"train_masks": pixels(12, 5, 6, 3)}, r"train_masks: expected 3 axes, or one more of length 1"),
    ],
)
def test_a_faulty_mask_is_named(tmp_path: Path, change: dict[str, Any], said: str):
    with pytest.raises(DataError, match=said):
        npz.read(write(tmp_path, masks(**change)))


def test_a_file_that_is_missing_or_of_another_kind_or_cut_short_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        npz.read(tmp_path / "none.npz")
    whole = write(tmp_path, arrays()).read_bytes()
    for content in (b"PNG", whole[: len(whole) // 2]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="is not an npz file, or not a whole one"):
            npz.read(tmp_path / "bad.npz")


def test_a_damaged_array_is_named(tmp_path: Path):
    path = write(tmp_path, arrays())
    content = bytearray(path.read_bytes())
    start = content.index(arrays()["train_labels"].tobytes())
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(DataError, match="train_labels: cannot be read"):
        npz.read(path)
