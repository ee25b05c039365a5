"""The picture of a search: error against what a network costs, with the limits drawn in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsearch.core.files import write_bytes
from medsearch.report import networks
from medsearch.report.mixers import KINDS, leading, short, stages_of
from medsearch.report.networks import Data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by every kind of colour vision; the shapes say the same again.
_LOOKS = {"conv": ("#0072B2", "o"), "attention": ("#D55E00", "s"), "MLP": ("#009E73", "^"), "other": ("#777777", "D")}
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "medsearch",
    "text.parse_math": False,
    "font.size": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_WIDTH, _PANELS, _LEGEND, _LINE, _DPI = 12.0, 5.2, 0.4, 0.24, 100  # inches, and dots per inch
_LOG_FROM = 8.0  # largest by smallest value from which an axis is logarithmic
_FAR = 20.0  # a limit this many times beyond everything is named but not drawn
_NEAR = ((0, 11), (11, 0), (0, -11), (-11, 0), (9, 9), (9, -9), (-9, -9), (-9, 9))  # where a number may stand, points
_BESIDE = (*_NEAR, (0, 20), (20, 0), (0, -20), (-20, 0))
_BYTES, _COUNTS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")), ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SCALES = {"bytes": _BYTES, "parameters": _COUNTS, "MAC": _COUNTS}
_MOST_PANELS = 4
_KEY_COLUMNS = (0.08, 0.1, 0.235, 0.56, 0.7, 0.85)


@dataclass(frozen=True, kw_only=True)
class _Point:
    """A network in the picture: what it costs by budget name, its error, its leading kind, its place if delivered."""

    network: Data
    cost: dict[str, float]
    error: float
    kind: str
    place: int

    @property
    def look(self) -> tuple[str, bool, bool]:
        """Leading kind, trained beyond the first rung, on the front: points that look alike are drawn together."""
        return self.kind, (self.network.get("rungs") or 1) > 1, bool(self.network.get("front"))


def front_plot(results: Data, path_png: str | Path, path_svg: str | Path) -> None:
    """Write the picture twice, 1200 pixels wide and as vectors; the same results give the same bytes."""
    import matplotlib.style

    with matplotlib.style.context(["default", _STYLE]):
        figure = _draw(results)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(path_png, png.getvalue())
    write_bytes(path_svg, svg.getvalue())


def _draw(results: Data) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    limited = (budget.get("name", "") for budget in networks.budgets(results))
    costs = list(dict.fromkeys((*networks.shown(results), *limited)))[:_MOST_PANELS] or [""]
    trials, found = _points(results, results.get("trials") or []), _points(results, networks.delivered(results))
    key = _LINE * (len(networks.delivered(results)) + 1.5)
    height = _PANELS + _LEGEND + key
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    bottom, top = (key + _LEGEND + 0.8) / height, 1 - 0.85 / height
    figure.subplots_adjust(left=0.08, right=0.98, bottom=bottom, top=top, wspace=0.08)
    title = f"{results.get('name') or 'search'}: {networks.outcome(results)}"
    figure.suptitle(title, x=0.08, y=1 - 0.15 / height, ha="left", va="top", fontsize=13, weight="bold")
    panels[0].set_ylabel(f"validation error ({networks.error_name(results)})")
    _scale(panels[0], "y", [point.error for point in (*trials, *found)])
    for panel, name in zip(panels, costs, strict=True):
        _panel(panel, results, name, trials, found)
    _legend(figure, trials, found, y=(key + _LEGEND / 2) / height)
    _key(figure, results, top=key / height, step=_LINE / height)
    return figure


def _points(results: Data, found: Sequence[Data]) -> list[_Point]:
    """Every network whose error is known."""
    families = results.get("families") or {}
    points = []
    for place, network in enumerate(found, 1):
        error = networks.error(network)
        known = {name: networks.best_known(network, name) for name in network.get("costs") or {}}
        cost = {name: value for name, value in known.items() if value is not None}
        kind = leading(stages_of(network), families)
        if error is not None:
            points.append(_Point(network=network, cost=cost, error=error, kind=kind, place=place))
    return points


def _panel(panel: Axes, results: Data, name: str, trials: list[_Point], found: list[_Point]) -> None:
    """One cost: trials, the delivered networks on top, the limit and what lies beyond it."""
    trials, found = ([point for point in points if name in point.cost] for points in (trials, found))
    ends = [networks.quantity(point.network, name, end) for point in found for end in ("low", "high")]
    costs = [point.cost[name] for point in (*trials, *found)] + [end for end in ends if end is not None]
    limit = networks.limit(results, name)
    near = limit is not None and limit <= _FAR * max(costs, default=limit)
    shown = [*costs, limit] if limit is not None and near else costs
    counted = networks.unit(name, (point.network for point in (*trials, *found)))
    unit, size = _unit(counted, max(shown, default=1e9))
    _scale(panel, "x", [cost / size for cost in shown])
    _trials(panel, name, size, trials)
    _delivered(panel, name, size, trials, found)
    if limit is not None:
        _limit(panel, limit / size if near else None, networks.form(name, counted)(limit))
    if not costs:
        panel.text(0.5, 0.5, "nothing to show", transform=panel.transAxes, ha="center", color="0.4")
    conditions = next((b.get("conditions") for b in networks.budgets(results) if b.get("name") == name), None)
    panel.set_xlabel(f"{networks.title(name)} ({unit})" + (f"\n{conditions}" if conditions else ""))
    panel.grid(color="0.92")
    panel.set_axisbelow(True)
    _numbers(panel, [(point.cost[name] / size, point.error) for point in found], [point.place for point in found])


def _unit(counted: str, largest: float) -> tuple[str, float]:
    """What an axis counts in, by its largest value: 1 GB is better read as 1000 MB."""
    units = _SCALES.get(counted, ((1.0, counted),))
    return next(((unit, size) for size, unit in units if largest >= 2 * size), (units[-1][1], units[-1][0]))


def _scale(panel: Axes, along: str, values: list[float]) -> None:
    """Limits around the values along ``x`` or ``y``; logarithmic, with numbers at 1, 2 and 5, if they span much."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values, default=0.0), max(values, default=1.0)
    axis = panel.xaxis if along == "x" else panel.yaxis
    if low > 0 and high / low >= _LOG_FROM:
        room = (high / low) ** 0.06
        panel.set(**{f"{along}scale": "log", f"{along}lim": (low / room, high * room)})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        room = 0.07 * (high - low) or 0.1 * abs(high) or 0.1
        panel.set(**{f"{along}lim": (low - room, high + room)})


def _trials(panel: Axes, name: str, size: float, points: list[_Point]) -> None:
    for look in sorted({point.look for point in points}):
        kind, further, front = look
        color, marker = _LOOKS[kind]
        alike = [point for point in points if point.look == look]
        panel.scatter(
            [point.cost[name] / size for point in alike],
            [point.error for point in alike],
            marker=marker,
            s=34 if further else 14,
            facecolors=(color, 0.5 if further else 0.3),
            edgecolors="black" if front else "none",
            linewidths=0.9,
            zorder=3 if front else 2,
        )


def _delivered(panel: Axes, name: str, size: float, trials: list[_Point], found: list[_Point]) -> None:
    """Large markers at the measured cost; a bar over the predicted interval; a line back to the short-trained trial."""
    searched = {point.network.get("id"): point for point in trials}
    for point in found:
        color, marker = _LOOKS[point.kind]
        x, low, high = point.cost[name], *(networks.quantity(point.network, name, end) for end in ("low", "high"))
        if before := searched.get(point.network.get("id")):
            line = [before.cost[name] / size, x / size], [before.error, point.error]
            panel.plot(*line, color="0.55", linewidth=0.8, linestyle=":", zorder=1)
        if low is not None and high is not None:
            panel.plot([low / size, high / size], [point.error] * 2, color=color, linewidth=2, alpha=0.6, zorder=4)
        panel.scatter(x / size, point.error, marker=marker, s=75, color=color, edgecolors="black", zorder=5)


def _limit(panel: Axes, at: float | None, said: str) -> None:
    """The budget as a line, the side beyond it shaded; None where it lies far beyond the right edge."""
    if at is None:
        panel.text(1, 1.015, f"budget {said}, far to the right", transform=panel.transAxes, ha="right", va="bottom")
        return
    right = panel.get_xlim()[1]
    panel.axvline(at, color="black", linewidth=1.4, zorder=2)
    panel.axvspan(at, right, facecolor="0.9", edgecolor="0.75", hatch="//", linewidth=0, zorder=0)
    side = "right" if panel.transData.transform((at, 0))[0] > panel.transAxes.transform((0.5, 0))[0] else "left"
    panel.text(at, 1.015, f"budget {said}", transform=panel.get_xaxis_transform(), ha=side, va="bottom", weight="bold")


def _numbers(panel: Axes, points: list[tuple[float, float]], places: list[int]) -> None:
    """The place of every delivered network, beside it where nothing else is in the way."""
    taken = [panel.transData.transform(point) * 72 / _DPI for point in points]
    style: dict[str, Any] = {"ha": "center", "va": "center", "weight": "bold", "zorder": 6}
    for point, place in zip(points, places, strict=True):
        here = panel.transData.transform(point) * 72 / _DPI
        free = [(min(10.0, *(abs(here + step - other).sum() for other in taken)), step) for step in _BESIDE]
        aside = max(free, key=lambda entry: entry[0])[1]
        taken.append(here + aside)
        panel.annotate(str(place), point, aside, textcoords="offset points", **style)


def _legend(figure: Figure, trials: list[_Point], found: list[_Point], y: float) -> None:
    from matplotlib.lines import Line2D

    def entry(label: str, marker: str, color: Any, edge: Any, size: float) -> Line2D:
        style = {"marker": marker, "color": color, "markeredgecolor": edge, "markersize": size}
        return Line2D([], [], linestyle="none", label=label, **style)

    present = {point.kind for point in (*trials, *found)}
    shown = [(kind, *_LOOKS[kind]) for kind in KINDS if kind in present]
    entries = [entry(f"mostly {kind}", marker, color, "none", 7) for kind, color, marker in shown]
    if any(not point.look[1] for point in trials):
        entries.append(entry("trained to the first rung", "o", "0.6", "none", 4))
    if any(point.look[2] for point in trials):
        entries.append(entry("front of the search", "o", "0.8", "black", 6))
    if found:
        entries.append(entry("delivered, fully trained", "o", "0.4", "black", 9))
    style: dict[str, Any] = {"frameon": False, "handletextpad": 0.2, "columnspacing": 1.5}
    figure.legend(handles=entries, loc="center", bbox_to_anchor=(0.5, y), ncols=8, **style)


def _key(figure: Figure, results: Data, *, top: float, step: float) -> None:
    """Under the panels: which network each number is."""
    shown = networks.shown(results)
    costs_head = (f"{networks.title(cost)} pred. → meas." for cost in shown)
    rows: list[tuple[str, ...]] = [
        ("", "network", "mixers by stage", f"{networks.metric_name(results)}: val. | test", *costs_head)
    ]
    for place, network in enumerate(networks.delivered(results), 1):
        scores = (networks.score(results, network.get(split)) for split in ("validation", "test"))
        name = f"{network.get('id')}{' (best)' if network.get('best') else ''}"
        costs = (networks.pair(network, cost) for cost in shown)
        rows.append((str(place), name, short(stages_of(network)), " | ".join(scores), *costs))
    for line, row in enumerate(rows if len(rows) > 1 else []):
        color = "black" if line else "0.35"
        for x, cell in zip(_KEY_COLUMNS, row, strict=False):
            figure.text(x, top - (line + 0.5) * step, cell, va="center", fontsize=10, color=color)
