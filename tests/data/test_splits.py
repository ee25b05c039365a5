"""Splits made here: exact shares, whole groups, no copy of an image on two sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsearch.core.errors import DataError
from medsearch.data.dataset import Split
from medsearch.data.splits import complete, divide, image_hashes

SHARES = (0.7, 0.15, 0.15)


def numbered(labels: np.ndarray, groups: np.ndarray | None = None) -> Split:
    """One pixel pair per image that holds its number, so that no two are equal."""
    images = np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1).repeat(2, axis=3)
    return Split(images=images, targets=np.asarray(labels), groups=groups)


def test_every_class_is_cut_in_the_same_shares():
    parts = divide(numbered(np.repeat([0, 1], (20, 40))), SHARES, where="toy")
    assert [np.bincount(part.targets).tolist() for part in parts] == [[14, 28], [3, 6], [3, 6]]


def test_each_image_is_in_one_part_with_its_own_target():
    labels = np.random.default_rng(0).integers(0, 4, 97)
    parts = divide(numbered(labels), SHARES, where="toy")
    numbers = np.concatenate([part.images[:, 0, 0, 0] for part in parts]).astype(int)
    assert sorted(numbers) == list(range(97))
    assert np.array_equal(np.concatenate([part.targets for part in parts]), labels[numbers])


def test_the_same_images_are_always_divided_the_same_way():
    first, again = (divide(numbered(np.arange(50) % 3), SHARES, where="toy") for _ in range(2))
    assert all(np.array_equal(a.images, b.images) for a, b in zip(first, again, strict=True))


def test_large_groups_go_to_the_part_that_is_furthest_from_its_share():
    """40, 30, 20 and 10 images of one class; a part lacks (need - half the group) / share, shares 70, 15 and 15.

    40: train (70 - 20) / 70 = .71, val (15 - 20) / 15 < 0   -> train, which then needs 30
    30: train (30 - 15) / 70 = .21, val (15 - 15) / 15 = 0   -> train, which then needs 0
    20: train (0 - 10) / 70 = -.14, val (15 - 10) / 15 = .33 -> val
    10: the last one, and test is still empty                -> test
    """
    groups = np.repeat(["d", "a", "c", "b"], (40, 30, 20, 10))
    train, val, test = divide(numbered(np.zeros(100, int), groups), SHARES, where="toy")
    assert set(train.groups) == {"d", "a"}
    assert set(val.groups) == {"c"}
    assert set(test.groups) == {"b"}


@given(data=st.data(), count=st.integers(12, 60))
def test_no_group_and_no_copy_straddles(data: st.DataObject, count: int):
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    groups = np.array(data.draw(st.lists(st.integers(0, 8), min_size=count, max_size=count)))
    groups[:6] = np.arange(100, 106)
    split = numbered(labels, groups)
    split.images[7] = split.images[0]  # joins the group of image 7 with that of image 0
    parts = divide(split, SHARES, where="toy")
    assert sum(len(part) for part in parts) == count
    for first, other in ((0, 1), (0, 2), (1, 2)):
        assert len(parts[first]) and len(parts[other])
        assert not set(parts[first].groups) & set(parts[other].groups)
        assert not set(image_hashes(parts[first].images)) & set(image_hashes(parts[other].images))


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="2 independent images or groups cannot be divided into 3 splits"):
        divide(numbered(np.zeros(9, int), np.arange(9) % 2), SHARES, where="toy")


def test_complete_splits_off_only_what_is_missing_and_says_so():
    train, val = numbered(np.arange(40) % 2), numbered(np.arange(10) % 2)
    rest, same_val, test, notes = complete({"train": train, "val": val}, where="toy")
    assert same_val is val
    assert (len(rest), len(test)) == (34, 6)
    assert notes == ("test split off train: 15% each, by class, seed 0",)
    masks = Split(images=train.images, targets=np.zeros((40, 1, 2), np.uint8))
    assert complete({"train": masks}, where="toy")[3] == ("val and test split off train: 15% each, at random, seed 0",)
    assert complete({"train": train, "val": val, "test": val}, where="toy")[3] == ()
