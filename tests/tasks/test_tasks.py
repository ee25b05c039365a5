"""Losses and metrics against values worked out by hand, the working beside the number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medsearch.tasks import TASKS, make_task

# Six images: shares of three classes, and the true class.  Largest shares: 0 0 1 1 0 2, so 4 of 6 are right.
SHARES = [(0.7, 0.2, 0.1), (0.5, 0.3, 0.2), (0.2, 0.7, 0.1), (0.3, 0.6, 0.1), (0.6, 0.1, 0.3), (0.05, 0.15, 0.8)]
LABELS = [0, 0, 0, 1, 1, 2]


def logits(shares: list[tuple[float, ...]]) -> Tensor:
    return torch.tensor(shares).log() + 3.0  # softmax undoes the logarithm and does not see the constant


def test_classification_metrics_are_those_counted_by_hand() -> None:
    """Recall: 2/3, 1/2, 1/1.  One-against-rest AUC, by pairs (one of the class, one of the rest) in the right order:

    class 0: 0.7 beats all of 0.3 0.6 0.05, 0.5 two of them, 0.2 one: 6/9.  Class 1: 0.6 beats three of 0.2 0.3 0.7
    0.15, 0.1 none: 3/8.  Class 2: 0.8 beats all: 1.
    """
    task = make_task("classification", outputs=3, dims=2)
    found = task.metrics(logits(SHARES), torch.tensor(LABELS))
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["auc"] == pytest.approx((6 / 9 + 3 / 8 + 1) / 3)
    assert task.error(found) == pytest.approx(1 - 4 / 6)


def test_a_class_that_a_split_lacks_is_left_out_of_the_means() -> None:
    """Without the last image: recall 2/3 and 1/2; AUC 3/6 (0.7 beats two of 0.3 0.6, 0.5 one) and 2/6."""
    task = make_task("classification", outputs=3, dims=2)
    found = task.metrics(logits(SHARES[:5]), torch.tensor(LABELS[:5]))
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found["auc"] == pytest.approx((3 / 6 + 2 / 6) / 2)


def test_auc_of_a_single_class_is_chance() -> None:
    found = make_task("classification", outputs=3, dims=2).metrics(logits(SHARES), torch.zeros(6, dtype=torch.long))
    assert found["auc"] == 0.5
    assert found["balanced_accuracy"] == found["accuracy"] == pytest.approx(3 / 6)


def test_auc_decides_between_two_classes_and_accuracy_among_more() -> None:
    """Shares of class 1: 0.2 0.6 | 0.4 0.9, threshold 0.5: 2 of 4 right, 3 of 4 pairs in order."""
    task = make_task("classification", outputs=2, dims=2)
    shares = [(1 - share, share) for share in (0.2, 0.6, 0.4, 0.9)]
    found = task.metrics(logits(shares), torch.tensor([0, 0, 1, 1]))
    assert (task.primary, make_task("classification", outputs=3, dims=2).primary) == ("auc", "accuracy")
    assert found["accuracy"] == pytest.approx(2 / 4)
    assert found["auc"] == pytest.approx(3 / 4)
    assert task.error(found) == pytest.approx(1 / 4)


def test_cross_entropy_is_smoothed_by_a_tenth() -> None:
    """Logits 2 and 0, class 0: p = 1 / (1 + e^-2); wanted shares 0.95 and 0.05: -0.95 ln p - 0.05 (ln p - 2)."""
    task = make_task("classification", outputs=2, dims=2)
    log_p = -math.log1p(math.exp(-2))
    loss = task.loss(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    assert float(loss) == pytest.approx(-0.95 * log_p - 0.05 * (log_p - 2))


def scores(labels_BS: list[list[list[int]]], classes: int) -> Tensor:
    """Outputs (B, K, *S) whose largest is the label."""
    return torch.nn.functional.one_hot(torch.tensor(labels_BS), classes).movedim(-1, 1).float()


def test_dice_and_iou_leave_out_what_is_in_neither_mask() -> None:
    """Image 1: structure 1 shares 1 pixel of 1 and 2: Dice 2/3, IoU 1/2; structure 2 is hit: 1 and 1.

    Image 2: structure 1 is 1 pixel in each and shares none: 0 and 0; structure 2 is in neither: left out.
    """
    task = make_task("segmentation", outputs=3, dims=2)
    wanted = torch.tensor([[[1, 1], [0, 2]], [[1, 0], [0, 0]]])
    found = task.metrics(scores([[[1, 0], [0, 2]], [[0, 1], [0, 0]]], 3), wanted)
    assert found["dice"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["iou"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert task.error(found) == pytest.approx(1 - (2 / 3 + 1) / 3)


def test_a_structure_seen_where_there_is_none_counts_as_a_miss() -> None:
    task = make_task("segmentation", outputs=3, dims=2)
    found = task.metrics(scores([[[1, 1], [0, 2]]], 3), torch.tensor([[[1, 1], [0, 0]]]))
    assert found == pytest.approx({"dice": (1 + 0) / 2, "iou": (1 + 0) / 2})


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    task = make_task("segmentation", outputs=3, dims=2)
    nothing = [[[0, 0], [0, 0]]]
    assert task.metrics(scores(nothing, 3), torch.tensor(nothing)) == {"dice": 1.0, "iou": 1.0}


def test_dice_of_volumes() -> None:
    """8 voxels, 4 of structure 1; predicted are 2 of them and 2 others: Dice 2*2/8, IoU 2/6."""
    wanted = torch.zeros(1, 2, 2, 2, dtype=torch.long)
    wanted[0, 0] = 1
    predicted = torch.zeros_like(wanted)
    predicted[0, :, 0] = 1
    output = torch.stack([1 - predicted, predicted], 1).float()
    found = make_task("segmentation", outputs=2, dims=3).metrics(output, wanted)
    assert found == pytest.approx({"dice": 1 / 2, "iou": 1 / 3})


def test_segmentation_loss_is_dice_of_the_foreground_plus_cross_entropy() -> None:
    """No opinion on two pixels, one of them foreground: Dice 2 * 0.5 / (1 + 1), cross-entropy ln 2."""
    loss = make_task("segmentation", outputs=2, dims=2).loss(torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 0]]]))
    assert float(loss) == pytest.approx(0.5 + math.log(2), abs=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_hundredth_of_the_range_off_is_forty_decibel(dims: int) -> None:
    """Range 0 to 200, every pixel 2 off: 20 log10(200 / 2) = 40 dB; as an error 10^(-40/20) = 0.01."""
    task = make_task("denoising", outputs=1, dims=dims)
    clean = torch.randint(0, 201, (2, 1, *(12,) * dims)).float()
    clean.view(-1)[:2] = torch.tensor([0.0, 200.0])
    found = task.metrics(clean + 2, clean)
    assert found["psnr"] == pytest.approx(40, abs=1e-4)
    assert task.error(found) == pytest.approx(0.01, rel=1e-5)
    assert found["ssim"] > 0.999


def test_a_perfect_result_has_a_finite_score() -> None:
    clean = torch.rand(2, 1, 12, 12)
    found = make_task("denoising", outputs=1, dims=2).metrics(clean, clean)
    assert found["ssim"] == pytest.approx(1)
    assert found["psnr"] == pytest.approx(120, abs=1e-3)


def test_denoising_loss_has_no_unit() -> None:
    """Clean 0 and 4 twice each: deviation sqrt(16/3) (of a sample); 1 off everywhere: 1 / sqrt(16/3)."""
    task = make_task("denoising", outputs=1, dims=2)
    clean = torch.tensor([[[[0.0, 4.0], [4.0, 0.0]]]])
    assert float(task.loss(clean + 1, clean)) == pytest.approx(1 / math.sqrt(16 / 3))
    assert float(task.loss(1000 * (clean + 1), 1000 * clean)) == pytest.approx(1 / math.sqrt(16 / 3))


@pytest.mark.parametrize("name", TASKS)
def test_the_error_falls_as_the_primary_metric_grows(name: str) -> None:
    task = make_task(name, outputs=3, dims=2)
    assert task.error({task.primary: 0.9}) < task.error({task.primary: 0.8})
