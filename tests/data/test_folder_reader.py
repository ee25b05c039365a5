"""Folders of classes: splits, groups, kinds of grey, and the files that stop the reader."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsearch.core.errors import DataError
from medsearch.data.readers import folder
from medsearch.data.splits import image_hashes

RNG = np.random.default_rng(0)


def grey(height: int = 5, width: int = 6) -> np.ndarray:
    return RNG.integers(0, 256, (height, width), np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def fill(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        for number in range(count):
            save(root / name / f"{number:02d}.png", grey())
    return root


def test_classes_alone_are_split_by_class(tmp_path: Path):
    toy = folder.read(fill(tmp_path / "cells", {"b": 20, "a": 40}))
    assert (toy.name, toy.classes, toy.channels, toy.size) == ("cells", ("a", "b"), 1, (5, 6))
    assert np.bincount(toy.train.targets).tolist() == [28, 14]
    assert np.bincount(toy.val.targets).tolist() == [6, 3]
    assert "val and test split off train" in toy.notes[0]
    assert toy.fingerprint() == folder.read(tmp_path / "cells").fingerprint()


def test_given_splits_are_kept_and_pixels_are_those_of_the_file(tmp_path: Path):
    for name, count in (("train", 3), ("val", 2), ("test", 1)):
        fill(tmp_path / name, {"a": count, "b": count})
    pixels = grey()
    save(tmp_path / "train" / "a" / "00.png", pixels)
    toy = folder.read(tmp_path)
    assert (len(toy.train), len(toy.val), len(toy.open_test()), toy.notes) == (6, 4, 2, ())
    assert np.array_equal(toy.train.images[0, 0], pixels)
    assert toy.train.targets.tolist() == [0, 0, 0, 1, 1, 1]


def test_copies_of_a_file_stay_in_one_split(tmp_path: Path):
    fill(tmp_path, {"a": 12, "b": 12})
    for number in range(6):
        content = (tmp_path / "a" / f"{number:02d}.png").read_bytes()
        (tmp_path / "a" / f"{number:02d} copy.png").write_bytes(content)
    toy = folder.read(tmp_path)
    splits = [set(image_hashes(split.images)) for split in (toy.train, toy.val, toy.open_test())]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 24


def test_a_folder_inside_a_class_is_a_patient_across_classes(tmp_path: Path):
    for patient in range(12):
        for name in ("a", "b"):
            fill(tmp_path / name, {f"p{patient}": 2})
    toy = folder.read(tmp_path)
    groups = [set(split.groups) for split in (toy.train, toy.val, toy.open_test())]
    assert set.union(*groups) == {f"p{patient}" for patient in range(12)}
    assert sum(map(len, groups)) == 12


def read_one_kind(root: Path, suffix: str, pixels: np.ndarray) -> np.ndarray:
    """What becomes of the pixels when every image of the set is of their kind."""
    for number in range(6):
        save(root / "ab"[number % 2] / f"{number}{suffix}", np.roll(pixels, number, axis=1))
    toy = folder.read(root)
    everything = [*toy.train.images, *toy.val.images, *toy.open_test().images]
    (image,) = [image for image in everything if image.flat[0] == pixels.flat[0]]
    return image


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_keeps_its_values(tmp_path: Path, suffix: str):
    pixels = (np.arange(30, dtype=np.uint16) * 2000).reshape(5, 6)
    image = read_one_kind(tmp_path, suffix, pixels)
    assert image.dtype == np.float32
    assert sorted(image.ravel()) == sorted(pixels.ravel())


def test_colour_has_three_channels_and_transparency_is_dropped(tmp_path: Path):
    pixels = np.arange(120, dtype=np.uint8).reshape(5, 6, 4)
    assert np.array_equal(read_one_kind(tmp_path / "rgba", ".png", pixels), pixels[..., :3].transpose(2, 0, 1))
    assert np.array_equal(read_one_kind(tmp_path / "la", ".png", pixels[..., :2]), pixels[None, ..., 0])


def test_a_photograph_taken_sideways_is_turned_upright(tmp_path: Path):
    fill(tmp_path / "train", {"a": 1, "b": 1})
    pixels, exif = grey(6, 5), Image.Exif()
    exif[0x0112] = 6  # orientation: the camera was turned, rotate by 90 degrees clockwise to view
    Image.fromarray(pixels).save(tmp_path / "train" / "a" / "00.png", exif=exif)
    for name in ("val", "test"):
        fill(tmp_path / name, {"a": 1})
    assert np.array_equal(folder.read(tmp_path).train.images[0, 0], np.rot90(pixels, -1))


def test_grey_among_colour_becomes_colour(tmp_path: Path):
    fill(tmp_path / "train", {"a": 1, "b": 1})
    for name in ("val", "test"):
        save(tmp_path / name / "a" / "0.png", RNG.integers(0, 256, (5, 6, 3), np.uint8))
    toy = folder.read(tmp_path)
    assert toy.channels == 3
    assert np.array_equal(toy.train.images[:, 0], toy.train.images[:, 2])


def test_hidden_and_other_files_are_skipped(tmp_path: Path):
    fill(tmp_path, {"a": 4, "b": 4})
    (tmp_path / "a" / ".0.png").write_bytes(b"")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    assert folder.read(tmp_path).fingerprint()["images"] == {"train": 4, "val": 2, "test": 2}


def test_mixed_sizes_name_two_files_and_a_way_out(tmp_path: Path):
    fill(tmp_path, {"a": 3, "b": 3})
    save(tmp_path / "b" / "odd.png", grey(7, 9))
    with pytest.raises(DataError, match=r"00.png: is 6 x 5 pixels, but .*odd.png is 9 x 7.\n  Crop, pad or resize"):
        folder.read(tmp_path)


def test_mixed_depths_are_refused(tmp_path: Path):
    fill(tmp_path, {"a": 3, "b": 3})
    save(tmp_path / "b" / "deep.png", grey().astype(np.uint16))
    with pytest.raises(DataError, match="00.png: holds uint8 pixels, but .*deep.png holds float32"):
        folder.read(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path):
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="c: holds no images"):
        folder.read(tmp_path)


@pytest.mark.parametrize("content", [b"not an image", b""])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes):
    fill(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "b" / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken.png: cannot be read as an image"):
        folder.read(tmp_path)


def test_an_image_cut_short_is_named(tmp_path: Path):
    fill(tmp_path, {"a": 3, "b": 3})
    path = save(tmp_path / "b" / "cut.png", RNG.integers(0, 256, (50, 60), np.uint8))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"cut.png: cannot be read as an image"):
        folder.read(tmp_path)


def test_a_file_of_many_pages_is_refused(tmp_path: Path):
    fill(tmp_path, {"a": 3, "b": 3})
    pages = [Image.fromarray(grey()) for _ in range(3)]
    pages[0].save(tmp_path / "b" / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"stack.tif: holds 3 pages"):
        folder.read(tmp_path)


def test_folders_that_fit_no_layout_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        folder.read(tmp_path / "none")
    with pytest.raises(DataError, match="holds no folders of classes"):
        folder.read(tmp_path)
    fill(tmp_path / "val", {"a": 1})
    with pytest.raises(DataError, match="expected train and perhaps val and test, got val"):
        folder.read(tmp_path)
    fill(tmp_path / "train", {"a": 1, "b": 1})
    fill(tmp_path / "validation", {"a": 1})
    with pytest.raises(DataError, match="got train, val, validation"):
        folder.read(tmp_path)


def test_a_class_that_train_lacks_is_refused(tmp_path: Path):
    fill(tmp_path / "train", {"a": 2, "b": 2})
    fill(tmp_path / "test", {"c": 2})
    with pytest.raises(DataError, match="c: is a class that train does not have; train has a, b"):
        folder.read(tmp_path)


def test_only_classification_is_read_from_folders(tmp_path: Path):
    with pytest.raises(DataError, match="for classification, not segmentation"):
        folder.read(tmp_path, task="segmentation")
