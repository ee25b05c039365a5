"""From sums over parts to whole networks: a ridge regression on what the sum cannot see, and a calibrated interval.

What the runtime fuses across parts, which layout maps are in and what stays in the cache depend on the network as a
whole.  The logarithm of measured over summed time is explained by a few features of the network, shrunk towards one
constant factor, which is all that few networks can tell.  The interval comes from the errors that each network shows
when the regression has not seen it (cross-conformal prediction: Vovk 2015, doi:10.1007/s10472-013-9368-4; jackknife+
without its asymmetry: Barber et al. 2021, arXiv:1905.02928).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medsearch.measurement.estimate import Estimate

COVERAGE = 0.95
"""Share of networks that the interval should hold."""


@dataclass(frozen=True, kw_only=True)
class ResidualModel:
    """log(measured / sum) = constant + weights . (features - centre), within ``spread``.

    Args:
        constant: of the logarithm.
        centre, weights: one number per feature.
        spread: half width of the interval, in the logarithm.
        errors: of networks that the fit had not seen, as logarithms; what the spread comes from.
    """

    constant: float = 0.0
    centre: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    spread: float = 0.0
    errors: tuple[float, ...] = ()

    def apply(self, total: float, features: Sequence[float], unit: str) -> Estimate:
        """The corrected sum with its interval."""
        value = total * math.exp(self._log_ratio(features))
        low, high = value * math.exp(-self.spread), value * math.exp(self.spread)
        return Estimate(value=value, low=low, high=high, unit=unit, how="predicted")

    def _log_ratio(self, features: Sequence[float]) -> float:
        if not self.weights:
            return self.constant
        return self.constant + float(np.dot(self.weights, np.subtract(features, self.centre)))


def tested_or_fitted(
    sums: Sequence[tuple[float, Sequence[float]]], measured: Sequence[float], known: ResidualModel | None
) -> tuple[ResidualModel, Sequence[float]]:
    """The residual model that networks show or have tested, and what is predicted for each without having seen it.

    Args:
        sums: milliseconds and features of each.
        measured: what each took.
        known: the model to test, whose interval is widened where they lie outside; None fits one to them.
    """
    if known is None:
        known = fit([total for total, _ in sums], [features for _, features in sums], measured)
        unseen = [found / math.exp(error) for found, error in zip(measured, known.errors, strict=False)]
        return known, unseen or measured
    predicted = [known.apply(total, features, "ms").value for total, features in sums]
    seen = (abs(math.log(real / said)) for real, said in zip(measured, predicted, strict=True))
    return replace(known, spread=max(known.spread, *seen)), predicted


def read_residual(data: Any) -> ResidualModel:
    """A residual model from plain data; ValueError for anything else."""
    lists, numbers = ("centre", "weights", "errors"), ("constant", "spread")
    if not isinstance(data, dict) or set(data) != {*lists, *numbers}:
        raise ValueError(f"expected a residual model, got {data!r}")
    values = [*(data[name] for name in numbers), *(value for name in lists for value in data[name])]
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        raise ValueError(f"expected finite numbers in a residual model, got {data!r}")
    given: dict[str, Any] = {name: tuple(data[name]) for name in lists}
    return ResidualModel(constant=data["constant"], spread=data["spread"], **given)


def fit(totals: Sequence[float], features: Sequence[Sequence[float]], measured: Sequence[float]) -> ResidualModel:
    """Fit to whole networks; the strength of the shrinkage is the one with the least error on networks left out.

    Args:
        totals: sums over parts.
        features: one row a network, of the size that features are usually told apart at (shares, logarithms).
        measured: what the networks took.
    """
    y_N = np.log(np.asarray(measured) / np.asarray(totals))
    if len(y_N) < 2:
        return ResidualModel(constant=float(y_N.mean()) if len(y_N) else 0.0)
    x_NF = np.asarray(features, dtype=float).reshape(len(y_N), -1)
    strengths = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, math.inf]
    left_out = {strength: _left_out(x_NF, y_N, strength) for strength in strengths}
    best = min(strengths, key=lambda strength: float(np.square(left_out[strength]).mean()))
    constant, centre_F, weights_F = _ridge(x_NF, y_N, best)
    errors = left_out[best]
    return ResidualModel(
        constant=constant,
        centre=tuple(centre_F.tolist()),
        weights=tuple(weights_F.tolist()),
        spread=quantile(np.abs(errors), COVERAGE),
        errors=tuple(errors.tolist()),
    )


def with_repeats(
    residual: ResidualModel, measured: Sequence[float], repeats: Sequence[Sequence[float]]
) -> ResidualModel:
    """The same with an interval for single measurements, some minutes apart, in place of what they agree on.

    Args:
        residual: fitted to ``measured``.
        measured: what each network takes, by all its measurements.
        repeats: the single measurements of each.
    """
    errors = [
        error + math.log(single / real)
        for error, real, singles in zip(residual.errors, measured, repeats, strict=True)
        for single in singles
    ]
    return replace(residual, spread=quantile(np.abs(errors), COVERAGE), errors=tuple(errors))


def _ridge(x_NF: np.ndarray, y_N: np.ndarray, strength: float) -> tuple[float, np.ndarray, np.ndarray]:
    centre_F, constant = x_NF.mean(axis=0), float(np.median(y_N))
    if math.isinf(strength) or not x_NF.shape[1]:
        return constant, centre_F, np.zeros(x_NF.shape[1])
    inner_NF = x_NF - centre_F
    constant = float(y_N.mean())
    gram_FF = inner_NF.T @ inner_NF + strength * np.eye(x_NF.shape[1])
    return constant, centre_F, np.linalg.solve(gram_FF, inner_NF.T @ (y_N - constant))


def _left_out(x_NF: np.ndarray, y_N: np.ndarray, strength: float) -> np.ndarray:
    """The error of every network under a fit to all the others."""
    errors = []
    for i in range(len(y_N)):
        keep = np.arange(len(y_N)) != i
        constant, centre_F, weights_F = _ridge(x_NF[keep], y_N[keep], strength)
        errors.append(y_N[i] - constant - float(weights_F @ (x_NF[i] - centre_F)))
    return np.asarray(errors)


def quantile(errors_N: np.ndarray, share: float) -> float:
    """The finite-sample quantile of conformal prediction; beyond the sample, a quarter above the largest error."""
    ordered, rank = np.sort(errors_N), math.ceil(share * (len(errors_N) + 1))
    return float(ordered[rank - 1]) if rank <= len(ordered) else 1.25 * float(ordered[-1])
