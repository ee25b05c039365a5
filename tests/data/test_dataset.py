"""What a data set promises once it is made, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from medsearch.core.errors import DataError
from medsearch.data.dataset import Dataset, Split


def classes_split(labels: list[int], *, seed: int, **changes: np.ndarray) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 2, 4, 6), np.uint8)
    return replace(Split(images=images, targets=np.array(labels, np.int64)), **changes)


def dataset(**changes: object) -> Dataset:
    parts = {
        "name": "toy",
        "source": "toy.npz",
        "task": "classification",
        "dims": 2,
        "channels": 2,
        "size": (4, 6),
        "classes": ("a", "b"),
        "train": classes_split([0, 1, 1, 0, 1], seed=0),
        "val": classes_split([0, 1], seed=1),
        "test": classes_split([1, 0, 1], seed=2),
    }
    return Dataset(**{**parts, **changes})


def test_the_test_split_is_read_once_and_is_no_attribute():
    toy = dataset()
    assert not hasattr(toy, "test")
    assert len(toy.open_test()) == 3
    with pytest.raises(DataError, match="the test split is read once"):
        toy.open_test()


def test_counting_does_not_open_the_test_split():
    toy = dataset()
    toy.fingerprint()
    assert len(toy.open_test()) == 3


def test_mean_and_deviation_are_those_of_all_train_pixels_of_a_channel():
    images = np.zeros((2, 2, 1, 2), np.uint8)
    images[:, 0] = [[[1, 3]], [[5, 7]]]  # mean 4, deviations -3 -1 1 3: sqrt((9 + 1 + 1 + 9) / 4) = sqrt(5)
    images[:, 1] = 9  # constant: deviation 1 by promise
    split = Split(images=images, targets=np.array([0, 1]))
    mean, std = dataset(size=(1, 2), train=split, val=split, test=split).mean_std()
    assert mean == (4.0, 9.0)
    assert std == pytest.approx((np.sqrt(5.0), 1.0), rel=1e-12)


def test_mean_and_deviation_of_large_float_values_agree_with_float64():
    images = np.random.default_rng(0).normal(1e4, 1.0, (150, 1, 5, 5)).astype(np.float32)
    split = Split(images=images, targets=np.arange(150) % 2)
    mean, std = dataset(channels=1, size=(5, 5), train=split, val=split, test=split).mean_std()
    assert mean[0] == pytest.approx(images.astype(np.float64).mean(), rel=1e-12)
    assert std[0] == pytest.approx(images.astype(np.float64).std(), rel=1e-9)


def test_the_fingerprint_counts_and_goes_into_json():
    groups = np.array(["p", "p", "q", "r", "r"])
    print_ = dataset(train=classes_split([0, 1, 1, 0, 1], seed=0, groups=groups)).fingerprint()
    assert print_["images"] == {"train": 5, "val": 2, "test": 3}
    assert print_["per_class"]["train"] == {"a": 2, "b": 3}
    assert print_["per_class"]["test"] == {"a": 1, "b": 2}
    assert print_["groups"] == {"train": 3, "val": None, "test": None}
    assert json.loads(json.dumps(print_)) == print_


def test_pixels_are_counted_for_segmentation():
    def split(labels: list[int]) -> Split:
        return Split(images=np.ones((1, 2, 1, 3), np.uint8), targets=np.array([[labels]], np.uint8))

    masks = dataset(task="segmentation", size=(1, 3), train=split([0, 1, 1]), val=split([0] * 3), test=split([1] * 3))
    assert masks.fingerprint()["per_class"] == {
        "train": {"a": 1, "b": 2},
        "val": {"a": 3, "b": 0},
        "test": {"a": 0, "b": 3},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"test": classes_split([1, 0, 1], seed=3)},
        {"val": classes_split([1, 0], seed=1)},
        {"classes": ("a", "c")},
        {"train": classes_split([0, 1, 1, 0, 1], seed=0, groups=np.arange(5))},
    ],
)
def test_the_hash_follows_the_content_and_not_the_name(change: dict[str, object]):
    same = dataset(name="other", source="elsewhere.npz").fingerprint()["sha256"]
    assert dataset().fingerprint()["sha256"] == same
    assert dataset(**change).fingerprint()["sha256"] != same


def floats(value: float) -> Split:
    split = classes_split([0, 1], seed=1)
    images = split.images.astype(np.float32)
    images[1, 0, 2, 3] = value
    return replace(split, images=images)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val": floats(np.nan)}, r"toy.npz: val: image 1 \(counted from 0\) holds NaN or infinite"),
        ({"val": floats(-np.inf)}, "toy.npz: val: image 1 .* holds NaN or infinite"),
        ({"val": classes_split([], seed=1)}, "toy.npz: val: holds no images"),
        ({"val": classes_split([0, 1], seed=1, targets=np.array([0]))}, "val: 2 images, but 1 targets"),
        ({"val": classes_split([0, 1], seed=1, groups=np.arange(3))}, "val: 2 images, but 3 groups"),
        ({"val": classes_split([0, 2], seed=1)}, "labels run from 0 to 2, but there are 2 classes: a, b"),
        ({"val": replace(classes_split([0], seed=1), images=np.ones((1, 2, 4, 4), np.uint8))}, "2 x 4 x 6 .* 4 x 4"),
        ({"train": classes_split([1, 1], seed=0)}, r"class 'a' \(label 0\) is empty in train; .* in val and test only"),
        ({"classes": ("a", "b", "c")}, r"class 'c' \(label 2\) is empty in train; it occurs nowhere"),
        ({"task": "segmentation"}, "segmentation needs targets of shape 5 x 4 x 6 for these images, got 5"),
        ({"task": "regression"}, "unknown task 'regression'"),
    ],
)
def test_a_fault_is_named_with_its_place(change: dict[str, object], said: str):
    with pytest.raises(DataError, match=said):
        dataset(**change)


def test_one_class_is_nothing_to_learn():
    split = classes_split([0, 0], seed=0)
    with pytest.raises(DataError, match="needs two classes or more, got 1"):
        dataset(classes=("a",), train=split, val=split, test=split)


def test_a_class_may_be_missing_from_val():
    assert dataset(val=classes_split([1, 1], seed=1)).fingerprint()["per_class"]["val"] == {"a": 0, "b": 2}
