"""Arguments to a verb and its options; what is wrong is said the way every other error is said."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Protocol

from medsearch import __version__
from medsearch.core.errors import UsageError
from medsearch.core.options import Option

UNITS = "GB = 10^9 bytes, GiB = 2^30 bytes; times like 20ms, 0.02s, 10m; counts like 5M, 300k"

VERBS = {
    "search": "search networks under hard budgets, train and deliver the best",
    "verify": "measure a delivered network again, on this machine, and compare with its budget.json",
    "compress": "prune and quantize a model.pt to a file that is measured to be smaller, faster and as good",
    "export": "write a model.pt as one plain Python file, or as ONNX or the file of another target",
    "bench": "latency and size of files side by side, or of token mixers and public implementations",
    "report": "print the report of a finished search and write its page again",
    "data": "check a data set: balance, leaks between splits, unreadable files",
    "spaces": "list, show or count search spaces; verify the published architectures among them",
    "doctor": "what this machine has, and how well costs are predicted on it",
}
"""What each verb does; its module in :mod:`medsearch.cli.verbs` is imported when it is asked for."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a verb found.

    Args:
        data: plain data, for ``--json``.
        show: prints it for people.
        code: the exit code.
    """

    data: Any
    show: Callable[[], None]
    code: int = 0


class Verb(Protocol):
    """A module of :mod:`medsearch.cli.verbs`."""

    ABOUT: str
    EXAMPLE: str

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add its options to its parser."""
        ...

    @staticmethod
    def run(options: argparse.Namespace) -> Answer:
        """Do it."""
        ...


class Parser(argparse.ArgumentParser):
    """Raises UsageError for what is wrong; takes no abbreviated options, so that a new one changes no old command."""

    def __init__(self, **given: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **given)

    def error(self, message: str) -> Any:
        raise UsageError(self.prog, f"{message}.", f"See: {self.prog} --help")


def parse(arguments: Sequence[str]) -> tuple[Verb, argparse.Namespace]:
    """The verb that is asked for, and its options.

    Raises:
        UsageError: for a verb or option that does not exist, or a value that cannot be read.
    """
    anywhere = Parser(prog="medsearch", add_help=False)
    _add_anywhere(anywhere)
    common, left = anywhere.parse_known_args(arguments)
    if plugins := getattr(common, "plugin", []):
        from medsearch.core.plugins import use

        use(plugins)
    asked = next((word for word in left if not word.startswith("-")), "")
    parser, verb = _parser(asked)
    options, unknown = parser.parse_known_args(arguments)
    assert verb is not None
    if unknown:
        own = Parser()
        verb.add_options(own)
        known = re.findall(r"--[\w-]+", own.format_usage())
        raise UsageError(f"medsearch {asked}", f"unknown argument '{unknown[0]}'.", _closest(unknown[0], known, asked))
    options.json = getattr(options, "json", False) or getattr(common, "json", False)
    return verb, options


def _closest(seen: str, known: Collection[str], verb: str) -> str:
    """What was meant, if something is close."""
    close = get_close_matches(seen, known, n=1)
    return (f"Did you mean '{close[0]}'? " if close else "") + f"See: medsearch {verb} --help"


def _parser(asked: str) -> tuple[Parser, Verb | None]:
    """The parser of the command, with the options of the verb that is asked for, and that verb."""
    parser = Parser(
        prog="medsearch",
        description="Find, shrink and export the network that fits your medical images and your machine.",
        epilog=f"Units: {UNITS}.\n\nexample:\n  medsearch search --budget-mem 1GB --time 10m",
    )
    parser.add_argument("--version", action="version", version=f"medsearch {__version__}")
    _add_anywhere(parser)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", parser_class=Parser)
    verb: Verb | None = None
    for name, about in VERBS.items():
        given: dict[str, Any] = {}
        if name == asked:
            verb = import_module(f"medsearch.cli.verbs.{name}")  # type: ignore[assignment]
            assert verb is not None
            given = {"description": verb.ABOUT, "epilog": f"Units: {UNITS}.\n\nexample:\n  {verb.EXAMPLE}"}
        inner = verbs.add_parser(name, help=about, **given)
        _add_anywhere(inner)
        if verb is not None and name == asked:
            verb.add_options(inner)
    return parser, verb


def _add_anywhere(parser: argparse.ArgumentParser) -> None:
    """The options that are taken before the verb and behind it."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=argparse.SUPPRESS,
        metavar="MODULE",
        help="import a module of yours that registers mixers or other parts; may be repeated",
    )
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print the results as JSON, and nothing else"
    )


def add_option(parser: Any, option: Option) -> None:
    """Add an option that a dataclass tells of; absent, it is None."""
    if option.kind is bool:
        parser.add_argument(option.flag, action="store_true", default=None, help=option.about)
        return
    choices = "{" + ",".join(option.choices) + "}" if option.choices else None
    parser.add_argument(
        option.flag, type=option.of_text, metavar=choices or option.example or option.name.upper(), help=option.about
    )


def given(options: argparse.Namespace, names: Collection[str]) -> dict[str, Any]:
    """Those of the options called ``names`` that are given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, got '{text}'")
    return int(text)
