"""The closed form against an independent solution of the same least squares problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medsearch.compression.refit import RIDGE, moments, refit, refit_


def inputs(samples: int = 400) -> torch.Tensor:
    """Eight correlated inputs with means of their own."""
    return torch.randn(samples, 8) @ torch.randn(8, 8) + torch.randn(8)


@pytest.mark.parametrize("bias", [True, False])
def test_the_refitted_layer_solves_the_ridge_regression_of_the_old_outputs(bias: bool) -> None:
    """Worked out with numpy: rows of data, rows of sqrt(ridge) for every kept weight, an extra column for the bias."""
    x_NI, layer, kept = inputs(), nn.Linear(8, 3, bias=bias), torch.tensor([0, 2, 3, 7])
    (seen,) = moments(nn.Sequential(layer), ["0"], x_NI.split(100)).values()
    weight, constant = refit(layer.weight.detach(), layer.bias.detach() if bias else None, seen, kept)

    x = x_NI.double().numpy()
    w = layer.weight.detach().double().numpy()
    lost = [1, 4, 5, 6]
    s = x[:, kept.numpy()]
    centred = s - s.mean(0) * bias
    ridge = RIDGE * np.mean(np.sum(centred**2, 0)) * np.eye(4)
    rows = np.vstack(
        [
            np.hstack([s, np.ones((len(s), 1))[:, : int(bias)]]),
            np.hstack([np.linalg.cholesky(ridge).T, np.zeros((4, int(bias)))]),
        ]
    )
    target = np.vstack([x[:, lost] @ w[:, lost].T, np.zeros((4, 3))])
    solution = np.linalg.lstsq(rows, target, rcond=None)[0]
    assert np.allclose(weight.numpy(), w[:, kept.numpy()] + solution[:4].T, atol=1e-4)
    if bias:
        assert constant is not None
        assert np.allclose(constant.numpy(), layer.bias.detach().numpy() + solution[4], atol=1e-4)
    else:
        assert constant is None


@pytest.mark.parametrize("conv", [None, nn.Conv2d, nn.Conv3d])
@torch.no_grad()
def test_kept_inputs_take_over_copies_of_themselves(conv: type[nn.Conv2d] | type[nn.Conv3d] | None) -> None:
    """Inputs 4..7 repeat 0..3, so nothing is lost but what the ridge takes."""
    layer: nn.Module = nn.Linear(8, 3) if conv is None else conv(8, 3, 1)
    x_NI = torch.randn(200, 4).repeat(1, 2)
    dims = {None: 0, nn.Conv2d: 2, nn.Conv3d: 3}[conv]
    x = x_NI.reshape(200, 8, *(1,) * dims)
    (seen,) = moments(nn.Sequential(layer), ["0"], [x]).values()
    before = layer(x)
    refit_(layer, seen, torch.arange(4))
    assert not layer.get_parameter("weight")[:, 4:].any()
    assert (layer(x) - before).norm() < 0.02 * before.norm()


@torch.no_grad()
def test_refitting_beats_cutting_on_correlated_inputs() -> None:
    layer, x_NI, kept = nn.Linear(8, 3), inputs(), torch.arange(5)
    (seen,) = moments(nn.Sequential(layer), ["0"], [x_NI]).values()
    before = layer(x_NI)
    cut = x_NI[:, :5] @ layer.weight[:, :5].T + layer.bias
    refit_(layer, seen, kept)
    assert (layer(x_NI) - before).norm() < 0.7 * (cut - before).norm()
