"""Rates of network parts from real profiles, for devices where nothing was timed yet: what travels in the package.

``python -m medsearch.studies.prior reports/budgets/profile-*.json > medsearch/measurement/latency/priors/NAME.json``
fits, for every kind of part, what it takes to begin, for a number of its maps and for a multiply-add, in runs of the
reference workload.  Each kind is judged where the fit has not seen it: by profiles of maps of other sizes for classes
that were timed, by other classes of its kind for those that were not.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from medsearch.blocks import CHANNELS, MIXERS
from medsearch.core.files import read_json
from medsearch.measurement.latency.prior import FORMAT, Rates, dims, numbers, worker
from medsearch.measurement.latency.residual import COVERAGE, quantile
from medsearch.measurement.latency.table import PartKey, from_data
from medsearch.measurement.model import KINDS

LEAST_RUNS = 0.002
"""Runs of the reference workload that timing can tell from nothing: 0.4 us."""
LEAST_DOUBT = 0.3
"""Doubt in the logarithm of any class: other sizes, knobs and machines than those that were profiled."""
FEW = 3
"""Timings of a class from which on it has rates of its own."""
_SCALES = np.array([1.0, 1e-5, 1e-6])


class Seen(NamedTuple):
    """One timing: where it stands, and how many runs of the reference workload it took."""

    place: PartKey
    runs: float


def rates(profiles: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What :func:`~medsearch.measurement.latency.prior.read_prior` reads, from device profiles as they are saved."""
    profiles = list(profiles)
    seen = [one for profile in profiles for one in _seen(profile)]
    by_class, by_kind = defaultdict(list), defaultdict(list)
    for one in seen:
        suffix = f" {dims(one.place)}D"
        by_class[worker(one.place) + suffix].append(one)
        by_kind[_kind(worker(one.place)) + suffix].append(one)
    parts = {name: _judged(found, lambda one: one.place.group) for name, found in by_class.items()}
    kinds = {name: _judged(found, lambda one: worker(one.place)) for name, found in by_kind.items()}
    for suffix in sorted({name.rpartition(" ")[2] for name in kinds}):
        strange = max((kinds[name] for name in kinds if name.endswith(suffix)), key=lambda found: found.doubt)
        kinds |= {f"{kind} {suffix}": strange for kind in KINDS if f"{kind} {suffix}" not in kinds}
    residuals = [residual for profile in profiles for residual in profile["residuals"].values()]
    middle = statistics.median(residual["constant"] for residual in residuals)
    return {
        "format": FORMAT,
        "device": profiles[0]["device"],
        "timings": len(seen),
        "overhead": statistics.median(profile["overhead_ms"] / profile["pace_ms"] for profile in profiles),
        "whole": {
            "constant": middle,
            "spread": max(abs(found["constant"] - middle) + found["spread"] for found in residuals),
        },
        "kinds": {name: vars(found) for name, found in sorted(kinds.items())},
        "parts": {name: vars(found) for name, found in sorted(parts.items()) if len(by_class[name]) >= FEW},
    }


def _seen(profile: dict[str, Any]) -> Iterable[Seen]:
    timings = from_data(profile["timings"]).timings.values()
    return (Seen(timing.part_key, max(LEAST_RUNS, timing.ms / profile["pace_ms"])) for timing in timings)


def _kind(name: str) -> str:
    """The kind of a class; see :data:`~medsearch.measurement.model.KINDS`."""
    mixers = {MIXERS[key].__name__: str(MIXERS[key].FAMILY) for key in MIXERS}  # type: ignore[attr-defined]
    if name in {CHANNELS[key].__name__ for key in CHANNELS}:
        return "channel"
    if name not in mixers:
        return "frame"
    return next((kind for kind in KINDS if kind in mixers[name]), "mlp")


def _judged(seen: Sequence[Seen], group: Callable[[Seen], str]) -> Rates:
    """Rates of these timings, their doubt from what each group shows under a fit to all others."""
    errors = []
    for left_out in sorted({group(one) for one in seen}):
        others = [one for one in seen if group(one) != left_out]
        if len(others) >= FEW:
            rate = _fitted(others)
            errors += [abs(math.log(one.runs / rate.of(one.place))) for one in seen if group(one) == left_out]
    found = _fitted(seen)
    errors = errors or [abs(math.log(one.runs / found.of(one.place))) for one in seen]
    doubt = max(LEAST_DOUBT, quantile(np.asarray(errors), COVERAGE))
    return Rates(entry=found.entry, number=found.number, work=found.work, doubt=doubt)


def _fitted(seen: Sequence[Seen]) -> Rates:
    """Least squares of the relative error without negative rates, then the median error taken out."""
    x_NR = np.array([[1.0, numbers(one.place), one.place.work] for one in seen])
    y_N = np.array([one.runs for one in seen])
    rates_R = nnls(x_NR * _SCALES / y_N[:, None], np.ones(len(y_N)))[0] * _SCALES
    rates_R *= math.exp(float(np.median(np.log(y_N / (x_NR @ rates_R)))))
    return Rates(entry=float(rates_R[0]), number=float(rates_R[1]), work=float(rates_R[2]), doubt=0.0)


if __name__ == "__main__":
    print(json.dumps(rates(read_json(Path(name)) for name in sys.argv[1:]), indent=1))
