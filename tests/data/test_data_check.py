"""Leaks and faults that were put into a data set are found, and a sound one is left in peace."""

from dataclasses import replace

import numpy as np
import pytest

from medsearch.data import Dataset, Split, check

SIZE = (24, 24)


def split(count: int, *, seed: int, labels: np.ndarray | None = None) -> Split:
    """Smooth random images under one bright disc that all share, as in a microscope."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 120, (count, 1, 6, 6)).repeat(4, axis=2).repeat(4, axis=3)
    row, column = np.ogrid[-1:1:24j, -1:1:24j]
    disc = np.where(row**2 + column**2 < 1, 130, 0)
    targets = np.arange(count) % 2 if labels is None else labels
    return Split(images=(coarse + disc).astype(np.uint8), targets=targets, groups=seed * 1000 + np.arange(count))


def dataset(**changes: object) -> Dataset:
    parts = {"train": split(60, seed=1), "val": split(20, seed=2), "test": split(30, seed=3), **changes}
    return Dataset(
        name="toy",
        source="toy",
        task="classification",
        dims=2,
        channels=1,
        size=SIZE,
        classes=("a", "b"),
        **parts,
    )


def messages(toy: Dataset, level: str) -> list[str]:
    return [finding.message for finding in check(toy) if finding.level == level]


def planted(target: Split, position: int, image: np.ndarray) -> Split:
    images = target.images.copy()
    images[position] = image
    return replace(target, images=images)


def test_a_sound_set_gets_no_warning_and_its_test_split_stays_sealed():
    toy = dataset()
    assert messages(toy, "error") == messages(toy, "warning") == []
    assert messages(toy, "info") == ["train holds 30 images of each class"]
    assert len(toy.open_test()) == 30


def test_an_exact_copy_across_splits_is_an_error():
    train, test = split(60, seed=1), split(30, seed=3)
    toy = dataset(train=train, test=planted(test, 7, train.images[11]))
    (message,) = messages(toy, "error")
    assert message == "1 of 30 images (3.3%) in test are exact copies of images in train, first image 7"
    assert messages(toy, "warning") == []


def test_a_near_copy_is_found_through_noise_gain_and_offset():
    train, val = split(60, seed=1), split(20, seed=2)
    noise = np.random.default_rng(0).normal(0, 8, SIZE)
    changed = (train.images[11, 0] * 0.7 + 20 + noise).clip(0, 255).astype(np.uint8)
    toy = dataset(train=train, val=planted(val, 4, changed[None]))
    (message,) = messages(toy, "warning")
    assert message == (
        "1 of 20 images (5.0%) in val look like one in train, first image 4 (correlation above 0.98 at 8 x 8 pixels)"
    )


def test_near_copies_of_volumes_are_found():
    rng = np.random.default_rng(0)
    parts = {
        name: Split(images=rng.integers(0, 200, (count, 1, 8, 9, 10), np.uint8), targets=np.arange(count) % 2)
        for name, count in (("train", 20), ("val", 8), ("test", 8))
    }
    parts["val"] = planted(parts["val"], 3, parts["train"].images[5] + 1)
    toy = Dataset(
        name="toy",
        source="toy",
        task="classification",
        dims=3,
        channels=1,
        size=(8, 9, 10),
        classes=("a", "b"),
        **parts,
    )
    assert ["in val look like one in train, first image 3" in message for message in messages(toy, "warning")] == [True]


def test_a_patient_in_two_splits_is_an_error():
    val = split(20, seed=2)
    toy = dataset(val=replace(val, groups=np.where(np.arange(20) < 2, [1003] * 20, val.groups)))
    assert messages(toy, "error") == ["1 groups are both in train and val, such as '1003'"]


def test_unknown_groups_are_said():
    toy = dataset(train=replace(split(60, seed=1), groups=None))
    assert "no groups known: images of one patient in two splits would not be noticed" in messages(toy, "info")


def test_a_rare_class_is_a_warning_that_names_it():
    toy = dataset(train=split(60, seed=1, labels=(np.arange(60) < 6).astype(int)))
    (message,) = messages(toy, "warning")
    assert message.startswith("train holds from 6 images ('b') to 54 ('a') of a class, 9.0 times as many")


def test_a_class_missing_from_val_is_a_warning():
    toy = dataset(val=split(20, seed=2, labels=np.zeros(20, int)))
    assert messages(toy, "warning") == ["class 'b' is not in val, so no score speaks of it"]


def test_constant_images_are_counted_and_not_taken_for_near_copies():
    blank = np.full((1, *SIZE), 9, np.uint8)
    toy = dataset(train=planted(split(60, seed=1), 5, blank), val=planted(split(20, seed=2), 6, blank + 1))
    assert messages(toy, "warning") == [
        "1 of 60 images (1.7%) in train have one value everywhere, first image 5",
        "1 of 20 images (5.0%) in val have one value everywhere, first image 6",
    ]


def test_a_copy_with_another_label_is_a_contradiction():
    train = split(60, seed=1)
    toy = dataset(train=planted(train, 11, train.images[10]))
    assert messages(toy, "warning") == ["1 images in train occur with more than one label"]
    assert "1 of 60 images (1.7%) in train repeat another one exactly" in messages(toy, "info")


def test_the_worst_comes_first():
    train = split(60, seed=1, labels=(np.arange(60) < 6).astype(int))
    toy = dataset(train=train, test=planted(split(30, seed=3), 7, train.images[11]))
    assert [finding.level for finding in check(toy)] == ["error", "warning"]


@pytest.mark.parametrize("task", ["segmentation", "denoising"])
def test_every_task_can_be_checked(task: str):
    def part(count: int, seed: int) -> Split:
        made = split(count, seed=seed)
        masks = (made.images[:, 0] > 100).astype(np.uint8)
        return replace(made, targets=masks if task == "segmentation" else made.images)

    classes = ("a", "b") if task == "segmentation" else ()
    toy = Dataset(
        name="toy",
        source="toy",
        task=task,
        dims=2,
        channels=1,
        size=SIZE,
        classes=classes,
        train=part(60, 1),
        val=part(20, 2),
        test=part(30, 3),
    )
    assert messages(toy, "error") == messages(toy, "warning") == []
