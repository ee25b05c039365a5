"""``medsearch search``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsearch.cli.parser import Answer, add_option, given
from medsearch.cli.show import show
from medsearch.config import OPTIONS, SearchConfig, read_values
from medsearch.measurement.costs import COSTS

if TYPE_CHECKING:
    from medsearch.api.result import SearchResult

ABOUT = """\
Search a space of networks on a data set; nothing over budget is trained or delivered.

Options given here win over those of a recipe."""
EXAMPLE = "medsearch search --data images.npz --budget-mem 1GB --budget-latency 20ms --time 30m"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of a search, from its configuration and the costs; where it goes, and what it goes on with."""
    budgets = parser.add_argument_group("budgets", "Hard limits: a network over one is neither trained nor delivered.")
    for name in COSTS:
        cost = COSTS[name]()
        budgets.add_argument(f"--budget-{cost.option}", dest=f"budget_{name}", metavar=cost.example, help=cost.about)
    for option in OPTIONS.values():
        add_option(parser, option)
    parser.add_argument("--recipe", metavar="RECIPE", help="name or file of a recipe")
    parser.add_argument("-o", "--out", type=Path, metavar="RUN", help="folder of the run (default: runs/<data>-<date>)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with an interrupted search, or extend a finished one: --time and --trials are then those of all "
        "starts together; --data and --space say where the same data and space are now",
    )


def run(options: argparse.Namespace) -> Answer:
    """Begin a search or go on with one."""
    from medsearch.api.searching import run as carry_out
    from medsearch.pipeline.begin import begin, go_on
    from medsearch.report.live import LiveSearch

    if options.resume:
        values = given(options, OPTIONS) | _budget(options)
        opened = go_on(options.resume, read_values(values, recipe=options.recipe, where="--resume"))
    else:
        opened = begin(asked_for(options), out=options.out, command=options.command)
    result = carry_out(opened, [LiveSearch()], start=options.start)
    return Answer(data=result.data, show=lambda: _show(result))


def asked_for(options: argparse.Namespace) -> SearchConfig:
    """The configuration of a new search: what the recipe says, and then the options."""
    values = given(options, OPTIONS) | _budget(options)
    return SearchConfig.read(values, recipe=options.recipe, where="medsearch search")


def _budget(options: argparse.Namespace) -> dict[str, Any]:
    """The limits that are given, read."""
    limits = {
        name: COSTS[name]().parse(text, where=f"--budget-{COSTS[name]().option}")
        for name in COSTS
        if (text := getattr(options, f"budget_{name}")) is not None
    }
    return {"budget": limits} if limits else {}


def _show(result: SearchResult) -> None:
    from medsearch.report.terminal import front_table

    show(front_table(result.data))
    print(f"Report: {result.report}")
