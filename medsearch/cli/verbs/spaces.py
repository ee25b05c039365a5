"""``medsearch spaces``."""

from __future__ import annotations

import argparse

from medsearch.cli.parser import Answer
from medsearch.cli.show import rows

ABOUT = """\
List search spaces, show the stages of one, or count its architectures.

verify counts every published architecture among them (exit code 1 if one differs from what was published)."""
EXAMPLE = "medsearch spaces show hybrid2d-tiny"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What is asked, and of which space."""
    parser.add_argument("action", choices=["list", "show", "count", "verify"])
    parser.add_argument("name", nargs="?", help="name or file of a space")


def run(options: argparse.Namespace) -> Answer:
    """Look it up."""
    if options.action == "verify":
        from medsearch.studies.published import verify_published

        found = verify_published(options.name)
        return rows(found, code=int(any(row["verdict"] == "differs" for row in found)))
    from medsearch.pipeline.spaces import spaces

    return rows(spaces(options.action, options.name))
