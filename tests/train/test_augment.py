"""Random changes: image and target alike, no change of shape, nothing where everything is off."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medsearch.train.augment import Augment

GEOMETRY = Augment(intensity=0.0)
OFF = Augment(flip=False, turn=False, shift=0.0, intensity=0.0)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*size: int, batch: int = 16) -> Tensor:
    return torch.rand(batch, 1, *size, generator=rng(1))


@pytest.mark.parametrize("size", [(12, 12), (9, 14), (8, 8, 8), (6, 9, 9)])
def test_a_mask_moves_with_its_image(size: tuple[int, ...]) -> None:
    before = images(*size)
    after, mask = GEOMETRY(before, (before[:, 0] > 0.5).long(), rng())
    assert after.shape == before.shape
    assert torch.equal(mask, (after[:, 0] > 0.5).long())
    assert not torch.equal(after, before)


@pytest.mark.parametrize("size", [(12, 12), (6, 9, 9)])
def test_a_clean_image_moves_with_its_noisy_one_and_keeps_its_intensities(size: tuple[int, ...]) -> None:
    noisy = images(*size)
    after, clean = Augment(intensity=0.5)(noisy, noisy * 2 + 1, rng())
    assert torch.equal(clean, after * 2 + 1)
    assert set(after.unique().tolist()) <= set(noisy.unique().tolist())


def test_labels_of_classes_stay_as_they_are() -> None:
    labels = torch.arange(16) % 3
    assert torch.equal(Augment()(images(16, 16), labels, rng())[1], labels)


def test_as_many_images_as_pixels_in_a_row_are_no_mask() -> None:
    labels = torch.arange(16)
    assert torch.equal(GEOMETRY(images(4, 16), labels, rng())[1], labels)


@pytest.mark.parametrize("batch", [1, 3, 8, 16])
def test_nothing_changes_with_everything_off(batch: int) -> None:
    before = images(7, 9, batch=batch)
    after, mask = OFF(before, before[:, 0] > 0.5, rng())
    assert torch.equal(after, before)
    assert torch.equal(mask, before[:, 0] > 0.5)


def test_intensity_changes_contrast_and_brightness_and_nothing_else() -> None:
    """Each image becomes a * image + b with |a - 1| <= 0.2 and the mean moved by at most 0.2 deviations."""
    before = images(12, 12)
    after = Augment(flip=False, turn=False, shift=0.0, intensity=0.2)(before, torch.zeros(16), rng())[0]
    std, mean = torch.std_mean(before, dim=(1, 2, 3), keepdim=True)
    new_std, new_mean = torch.std_mean(after, dim=(1, 2, 3), keepdim=True)
    assert torch.allclose((after - new_mean) / new_std, (before - mean) / std, atol=1e-4)
    assert 0.05 < float((new_std / std - 1).abs().max()) <= 0.2 + 1e-4
    assert 0.05 < float(((new_mean - mean) / std).abs().max()) <= 0.2 + 1e-4


def changes(augment: Augment, image: Tensor, draws: int = 60) -> set[bytes]:
    """Every result of many draws for one image."""
    generator = rng()
    return {
        augment(image[None, None], torch.zeros(1), generator)[0].contiguous().numpy().tobytes() for _ in range(draws)
    }


def results(*wanted: Tensor) -> set[bytes]:
    return {image.contiguous().numpy().tobytes() for image in wanted}


def test_flips_mirror_every_axis_by_itself() -> None:
    image = torch.arange(6.0).reshape(2, 3)
    found = changes(Augment(turn=False, shift=0.0, intensity=0.0), image)
    assert found == results(image, image.flip(0), image.flip(1), image.flip(0, 1))


def test_turns_do_not_mirror() -> None:
    image = torch.arange(9.0).reshape(3, 3)
    found = changes(Augment(flip=False, shift=0.0, intensity=0.0), image)
    assert found == results(image, image.rot90())


def test_flips_and_turns_reach_all_eight_views_of_a_square() -> None:
    image = torch.arange(9.0).reshape(3, 3)
    turned = [image.rot90(quarter) for quarter in range(4)]
    assert changes(Augment(shift=0.0, intensity=0.0), image) == results(*turned, *(view.T for view in turned))


def test_shifts_fill_the_gap_with_the_mirrored_edge() -> None:
    """Up to a quarter of four: one place to either side; what is nearest the edge is seen twice."""
    row = torch.arange(4.0)
    found = changes(Augment(flip=False, turn=False, shift=0.25, intensity=0.0), row[None])
    assert found == results(row, torch.tensor([0.0, 0, 1, 2]), torch.tensor([1.0, 2, 3, 3]))


def test_the_same_generator_gives_the_same_changes() -> None:
    before = images(12, 12)
    first, second, other = (Augment()(before, torch.zeros(16), rng(seed))[0] for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
