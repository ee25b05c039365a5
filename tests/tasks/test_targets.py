"""Targets of every kind: what files hold of them, what is refused, and how losses get them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsearch.core.errors import DataError
from medsearch.tasks import TASKS, ClassLabels, ClassMaps, Images, Numbers, Target, make_task, task_type

UINT8 = np.dtype(np.uint8)


@pytest.mark.parametrize(
    ("target", "shape", "kind"),
    [
        (ClassLabels(), (5,), torch.int64),
        (ClassMaps(), (5, 8, 6), torch.int64),
        (Images(), (5, 1, 8, 6), torch.float32),
        (Numbers(), (5, 3), torch.float32),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Target) else "",
)
def test_an_example_has_the_shape_that_is_said_and_tensors_are_as_losses_want_them(
    target: Target, shape: tuple[int, ...], kind: torch.dtype
) -> None:
    made = target.example(5, channels=1, size=(8, 6), outputs=3, images=UINT8)
    assert made.shape == shape == (5, *target.shape(channels=1, size=(8, 6), outputs=3))
    assert made.dtype == target.dtype(UINT8)
    assert target.tensor(made).dtype == kind


def test_numbers_are_read_as_columns() -> None:
    assert Numbers().read(np.array([1, 2, 3]), dims=2, where="x").shape == (3, 1)
    read = Numbers().read(np.array([[0.5, 1.5]]), dims=2, where="x")
    assert (read.dtype, read.shape) == (np.float32, (1, 2))
    assert Numbers().outputs(read, channels=3, classes=0) == 2


@pytest.mark.parametrize("found", [np.zeros((2, 2, 2)), np.array(["a", "b"])])
def test_what_is_no_list_of_numbers_is_refused(found: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"x: expected real numbers \(N,\) or \(N, K\)"):
        Numbers().read(found, dims=2, where="x")


@pytest.mark.parametrize("name", TASKS)
def test_the_metrics_of_a_task_are_those_that_it_describes(name: str) -> None:
    task, target = make_task(name, outputs=3, dims=2), task_type(name).TARGET
    channels = 3  # a denoiser gives back as many channels
    made = target.example(4, channels=channels, size=(16, 16), outputs=3, images=np.dtype(np.float32))
    output = torch.randn(4, 3, *((16, 16) if task.DENSE else ()))
    assert set(task.metrics(output, target.tensor(made))) == set(task.METRICS)
    assert task.primary in task.METRICS
