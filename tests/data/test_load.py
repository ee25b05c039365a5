"""One door for every source."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsearch.core.errors import DataError
from medsearch.data import READERS, Dataset, load
from medsearch.data.readers import readers


def test_nothing_given_is_the_embedded_sample():
    assert load().name == "brain2d-classification"
    assert load(task="segmentation").name == "brain2d-segmentation"


def test_the_source_of_an_embedded_set_loads_it_again():
    first = load("brain2d-denoising")
    assert load(first.source).fingerprint() == first.fingerprint()


def test_a_file_and_a_folder_are_told_apart(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6), np.uint8)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=np.arange(12) % 2)
    assert load(str(tmp_path / "a.npz")).name == "a"
    for number, image in enumerate(images):
        path = tmp_path / "set" / "xy"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    assert load(str(tmp_path / "set")).classes == ("x", "y")


@pytest.mark.parametrize(
    ("source", "task", "said"),
    [
        ("brain2d-clasification", None, "no such file, .*\n  Did you mean 'brain2d-classification'"),
        ("embedded:brain", None, "embedded:brain: no such embedded set"),
        ("missing.npz", None, "missing.npz: no such file"),
        (__file__, None, "is nothing that a reader takes.\n  Read are .*, a folder of classes, an .npz file"),
        (None, "clasification", "unknown task 'clasification'.\n  Did you mean 'classification'"),
    ],
)
def test_a_wrong_source_is_answered_with_what_exists(source: str | None, task: str | None, said: str):
    with pytest.raises(DataError, match=said):
        load(source, task=task)


class Letters:
    """Takes what the embedded reader takes too."""

    TAKES = "letters"

    def claims(self, source: str) -> bool:
        return source in ("letters:a", "brain2d")

    def read(self, source: str, *, task: str | None = None) -> Dataset:
        raise DataError(source, f"read for {task}.")


def test_readers_of_other_packages_are_asked_first(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(READERS._load(), "zeta", Letters)
    assert [type(reader).__name__ for reader in readers()][0] == "Letters"
    for source in ("letters:a", "brain2d"):
        with pytest.raises(DataError, match=f"{source}: read for None"):
            load(source)
    with pytest.raises(DataError, match="Read are letters, the name of an embedded set, a folder"):
        load(__file__)
