"""The end of a search or of a compression, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from medsearch.report import networks
from medsearch.report.mixers import short, stages_of
from medsearch.report.networks import DASH, Data

_TABLE_WIDTH = 78


def front_table(results: Data) -> Group:
    """The delivered networks side by side, how they keep the budgets, and what else should be known."""
    found = networks.delivered(results)
    bad = any(networks.over(network, results) for network in found)
    outcome = (networks.outcome(results), "bold red" if bad else "")
    headline = Text.assemble((str(results.get("name") or "search"), "bold"), ": ", outcome)
    front: list[RenderableType] = [_Front(results, found), Text()] if found else []
    return Group(headline, Text(), *front, _facts(results))


@dataclass(frozen=True)
class _Front:
    """A table where the terminal is wide enough for one, a list where it is not."""

    results: Data
    found: list[Data]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield (_table if options.max_width >= _TABLE_WIDTH else _list)(self.results, self.found)


def _table(results: Data, found: list[Data]) -> Table:
    """Two lines for each network, so that 80 columns are enough and nothing is cut off."""
    metric = networks.metric_name(results).replace("accuracy", "acc.")
    table = _ruled()
    table.add_column("", justify="right", style="dim")
    table.add_column("network\nmixers by stage", min_width=15)
    table.add_column("\n".join(map(networks.title, networks.counts(found))), justify="right", no_wrap=True)
    table.add_column(f"val. {metric}\ntest {metric}", justify="right", no_wrap=True)
    for name in networks.shown(results):
        table.add_column(f"{networks.title(name)}\npred. → meas.", justify="right")
    table.add_column("verdict", min_width=8)
    for place, network in enumerate(found, 1):
        table.add_row(str(place), *_row(results, network, networks.counts(found)))
    return table


def _ruled() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)


def _row(results: Data, network: Data, counts: Sequence[str]) -> list[Text]:
    return [
        _name(network).append("\n" + short(stages_of(network)).replace("·", " · ")),
        Text("\n".join(networks.cost_text(network, name) for name in counts)),
        Text("\n".join(networks.score(results, network.get(split)) for split in ("validation", "test"))),
        *(Text("\n".join(_cost(results, network, name))) for name in networks.shown(results)),
        _verdict(results, network),
    ]


def _name(network: Data) -> Text:
    return Text.assemble((str(network.get("id", DASH)), "bold"), ("  best" if network.get("best") else "", "green"))


def _cost(results: Data, network: Data, name: str) -> tuple[str, str]:
    return networks.pair(network, name), networks.share(network, name, results)


def _verdict(results: Data, network: Data) -> Text:
    said = networks.verdict(network, results)
    return Text(said, style={"over": "bold red", "fits": "green"}.get(said[:4], "yellow"))


def _list(results: Data, found: list[Data]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for place, network in enumerate(found, 1):
        grid.add_row(Text(str(place), style="dim"), _name(network))
        for line in _lines(results, network):
            grid.add_row("", Text(line))
        grid.add_row("", _verdict(results, network))
    return grid


def _lines(results: Data, network: Data) -> Iterator[str]:
    yield short(stages_of(network)).replace("·", " · ")
    yield ", ".join(
        f"{networks.cost_text(network, name)} {networks.title(name)}" for name in networks.counts([network])
    )
    val, test = (networks.score(results, network.get(split)) for split in ("validation", "test"))
    yield f"{networks.metric_name(results)}: val. {val}, test {test}"
    for name in networks.shown(results):
        yield f"{networks.title(name)}: " + ", ".join(part for part in _cost(results, network, name) if part)


def _facts(results: Data) -> Table:
    """Budgets, prediction error, refusals and remarks, a line each."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, lines in _facts_by_label(results):
        for index, line in enumerate(lines):
            grid.add_row("" if index else label, Text(line))
    return grid


def _facts_by_label(results: Data) -> Iterator[tuple[str, list[str]]]:
    yield "budgets", [networks.budget_text(budget) for budget in networks.budgets(results)]
    said = ((name, networks.prediction_text(results, name)) for name in results.get("prediction") or {})
    yield "prediction", [f"{name}: {sentence}" for name, sentence in said if sentence]
    yield "refused", [f"{entry.get('id')}: {entry.get('reason')}" for entry in results.get("refused") or []]
    yield "remarks", [str(remark) for remark in results.get("remarks") or []]


def compression_table(results: Data) -> Group:
    """A network before and after compression: size, latency and every metric, and what was done."""
    table = _ruled()
    table.add_column("")
    for title in ("float", "int8", "change"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in networks.compression_rows(results):
        table.add_row(*row)
    steps = Table.grid(padding=(0, 2, 0, 0))
    for step in results.get("steps") or []:
        steps.add_row(Text(str(step.get("name")), style="dim"), Text(str(step.get("did"))))
    return Group(table, Text(), steps, Text(), Text(str(results.get("sentence") or ""), style="bold"))
