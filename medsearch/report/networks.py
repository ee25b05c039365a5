"""What a search's results say about each network, worked out once for the terminal, the page and the plot.

Everything here reads the plain data of ``results.json``; a value that is missing, null or not finite is None, in text a
dash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from medsearch.measurement.costs import COSTS, cost_named

Data = Mapping[str, Any]

DASH = "–"
MOST_SHOWN = 2
"""Costs that have a column each."""


def number(value: Any) -> float | None:
    """``value`` if it is a finite number."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if real and math.isfinite(value) else None


def text(value: Any, form: Callable[[float], str] = "{:.3g}".format) -> str:
    """A number in its form, or a dash."""
    known = number(value)
    return DASH if known is None else form(known)


def percent(value: float) -> str:
    """``3.1 %``, from a percentage."""
    return f"{value:.1f} %" if abs(value) < 10 else f"{value:.0f} %"


def form(name: str, unit: object = "") -> Callable[[float], str]:
    """How values of a cost are written; a cost of a package that is not there has its unit behind it."""
    if name in COSTS:
        return cost_named(name, where="report").show
    return lambda value: f"{value:.4g} {unit or ''}".rstrip()


def unit(name: str, found: Iterable[Data]) -> str:
    """What a cost is counted in, as these networks say where nothing else does."""
    if name in COSTS:
        return cost_named(name, where="report").unit
    return next((str(known) for network in found if (known := cost(network, name).get("unit"))), "")


def title(name: str) -> str:
    """What a column or an axis with a cost is called."""
    return cost_named(name, where="report").title if name in COSTS else name


def cost(network: Data, name: str) -> Data:
    """What is known of a cost of a trial or a delivered network."""
    return (network.get("costs") or {}).get(name) or {}


def quantity(network: Data, name: str, how: str) -> float | None:
    """A cost of a network, ``predicted``, ``measured`` or its ``low`` or ``high`` end."""
    return number(cost(network, name).get(how))


def cost_text(network: Data, name: str) -> str:
    """``12.3 ms``: the measured value where there is one, else the predicted one."""
    return text(best_known(network, name), form(name, cost(network, name).get("unit")))


def objectives(results: Data) -> list[str]:
    """The costs that the search made small beside the error, the most important first."""
    return list(results.get("objectives") or [])


def shown(results: Data) -> list[str]:
    """The costs that have a column each: as many of the first objectives as there is room for."""
    return objectives(results)[:MOST_SHOWN]


def counts(networks: Iterable[Data]) -> list[str]:
    """The costs that need no measuring and that these networks have, the number of weights among them."""
    known = {name for network in networks for name in network.get("costs") or {}}
    return [name for name in COSTS if COSTS[name].exact and name in known]  # type: ignore[attr-defined]


def best_known(network: Data, name: str) -> float | None:
    """The measured value where there is one, else the predicted one."""
    measured = quantity(network, name, "measured")
    return quantity(network, name, "predicted") if measured is None else measured


def pair(network: Data, name: str) -> str:
    """``812 → 830 MB``: predicted, then measured."""
    written = form(name, cost(network, name).get("unit"))
    before, after = (text(quantity(network, name, how), written) for how in ("predicted", "measured"))
    if before == after == DASH:
        return DASH
    value, _, unit = before.partition(" ")
    return f"{value if after.endswith(' ' + unit) else before} → {after}"


def delivered(results: Data) -> list[Data]:
    """The delivered networks, the cheapest first; their places in this list number them everywhere."""
    return cheapest_first(results.get("delivered") or [], objectives(results)[:1])


def cheapest_first(found: Iterable[Data], names: Sequence[str]) -> list[Data]:
    """Networks by these costs; unknown ones last."""
    return sorted(found, key=lambda network: [or_last(best_known(network, name)) for name in names])


def or_last(value: float | None) -> float:
    """The value for sorting; what is unknown comes last."""
    return math.inf if value is None else value


def best(results: Data) -> Data | None:
    """The delivered network marked as best."""
    return next((network for network in delivered(results) if network.get("best")), None)


def budgets(results: Data) -> list[Data]:
    """The hard limits of the search."""
    return list(results.get("budgets") or [])


def limit(results: Data, name: str) -> float | None:
    """The limit called ``name``, in bytes, ms or a count."""
    return next((number(budget.get("limit")) for budget in budgets(results) if budget.get("name") == name), None)


def limit_text(budget: Data) -> str:
    """``memory ≤ 1 GB``."""
    name = budget.get("name", "")
    return f"{name} ≤ {text(budget.get('limit'), form(name, budget.get('unit')))}"


def budget_text(budget: Data) -> str:
    """``memory ≤ 1 GB (one training step, batch 64, bf16)``."""
    conditions = budget.get("conditions")
    return limit_text(budget) + (f" ({conditions})" if conditions else "")


def share(network: Data, name: str, results: Data) -> str:
    """``83 % of 1 GB``: how much of the limit is used; empty without a limit."""
    used, most = best_known(network, name), limit(results, name)
    if used is None or not most:
        return ""
    return f"{percent(100 * used / most)} of {form(name, cost(network, name).get('unit'))(most)}"


def over(network: Data, results: Data) -> list[str]:
    """The budgets a network breaks, by the numbers themselves and not only by its own word."""
    names = []
    for budget in budgets(results):
        used, most = best_known(network, budget.get("name", "")), number(budget.get("limit"))
        if used is not None and most is not None and used > most:
            names.append(budget["name"])
    return names or ([] if network.get("within_budget", True) else ["a budget"])


def verdict(network: Data, results: Data) -> str:
    """``fits``, ``fits (latency predicted)``, ``over: memory`` or ``unknown: memory``."""
    if broken := over(network, results):
        return f"over: {', '.join(broken)}"
    names = [budget.get("name", "") for budget in budgets(results)]
    if unknown := [name for name in names if best_known(network, name) is None]:
        return f"unknown: {', '.join(unknown)}"
    guessed = [name for name in names if quantity(network, name, "measured") is None]
    return f"fits ({', '.join(guessed)} predicted)" if guessed else "fits"


def outcome(results: Data) -> str:
    """``0 of 4 delivered over budget``."""
    verdicts = [verdict(network, results) for network in delivered(results)]
    if not verdicts:
        return "no network was delivered"
    if not budgets(results):
        return f"{len(verdicts)} delivered, no budget was set"
    broken, unknown = (sum(said.startswith(word) for said in verdicts) for word in ("over", "unknown"))
    return f"{broken} of {len(verdicts)} delivered over budget" + (f", {unknown} unknown" if unknown else "")


def metric_name(results: Data) -> str:
    """The metric that decides, as people write it."""
    return label(results, results.get("primary") or "score")


def label(results: Data, metric: str) -> str:
    """A metric as people write it."""
    return str(_metric(results, metric).get("label") or metric)


def _metric(results: Data, metric: str) -> Data:
    """What the task says of a metric: see :class:`~medsearch.tasks.Metric`."""
    return (results.get("metrics") or {}).get(metric) or {}


def score(results: Data, scores: Data | None) -> str:
    """The metric that decides, ``0.921`` or ``31.2 dB``."""
    primary = results.get("primary") or ""
    return text((scores or {}).get(primary), metric_form(results, primary))


def metric_form(results: Data, metric: str) -> Callable[[float], str]:
    """With as many digits as the task gives it, three where it says nothing, and its unit."""
    known = _metric(results, metric)
    digits, unit = known.get("digits", 3), known.get("unit") or ""
    return lambda value: f"{value:.{digits}f} {unit}".rstrip()


def error(network: Data) -> float | None:
    """The validation error of a trial or a delivered network, as the task defines it."""
    return number(network.get("error"))


def error_name(results: Data) -> str:
    """What :func:`error` and the errors of the trials are."""
    return str(results.get("error_label") or "error")


def prediction_text(results: Data, name: str) -> str:
    """``median error 3.1 %, 95th percentile 9.0 %, largest 12 % over 18 networks``; empty if nothing was compared."""
    found = (results.get("prediction") or {}).get(name) or {}
    if not found.get("networks"):
        return ""
    keys = {"median error": "median_error_percent", "95th percentile": "p95_error_percent"}
    parts = [f"{what} {text(found.get(key), percent)}" for what, key in keys.items()]
    networks = f"{found['networks']} network" + ("s" if found["networks"] != 1 else "")
    return f"{', '.join(parts)}, largest {text(found.get('largest_error_percent'), percent)} over {networks}"


def compression_rows(results: Data) -> list[tuple[str, str, str, str]]:
    """Size, latency and every metric of a compressed network: what, before, after, and how it changed."""
    before, after = (results.get(side) or {} for side in ("float", "int8"))
    rows = []
    for name, key, ratio in (("size", "bytes", "size_ratio"), ("latency", "latency_ms", "ratio")):
        written = form("file" if key == "bytes" else "latency")
        rows.append((name, text(before.get(key), written), text(after.get(key), written), _times(results, ratio)))
    old, new = (side.get("metrics") or {} for side in (before, after))
    for metric in dict.fromkeys([*old, *new]):
        was, now = number(old.get(metric)), number(new.get(metric))
        change = DASH if was is None or now is None else f"{now - was:+.3f}"
        written = metric_form(results, metric)
        rows.append((label(results, metric), text(was, written), text(now, written), change))
    return rows


def _times(results: Data, ratio: str) -> str:
    """``3.8x smaller`` or ``1.4x faster``; below 1 it says larger or slower, so that nobody has to invert it."""
    value = number(results.get(ratio))
    if not value:
        return DASH
    better, worse = ("smaller", "larger") if ratio == "size_ratio" else ("faster", "slower")
    return f"{value:.2f}x {better}" if value >= 1 else f"{1 / value:.2f}x {worse}"
