"""Parts that live in other packages: imported by name when the user says so, or offered by an installed package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from medsearch.core.errors import UsageError

ENTRY_POINTS = "medsearch.plugins"
"""The group under which an installed package names the modules whose import registers its parts."""

_named: list[str] = []


def use(modules: Sequence[str]) -> None:
    """Import ``modules``, from the working directory too; what they register is known from then on.

    Raises:
        UsageError: for a module that is not there, or that fails when it is imported.
    """
    if modules and "" not in sys.path:
        sys.path.append("")
    for module in modules:
        if module in _named:
            continue
        try:
            importlib.import_module(module)
        except Exception as problem:
            reason = f"cannot be imported: {type(problem).__name__}: {problem}."
            remedy = "Name a module as Python imports it (mypkg.mixers), installed or under the working directory."
            raise UsageError(f"--plugin {module}", reason, remedy) from problem
        _named.append(module)


def in_use() -> tuple[str, ...]:
    """The modules given to :func:`use`, for a process that is to know the same parts."""
    return tuple(_named)


def use_installed() -> None:
    """Import what installed packages offer under :data:`ENTRY_POINTS`."""
    for point in entry_points(group=ENTRY_POINTS):
        try:
            importlib.import_module(point.module)
        except Exception as problem:
            reason = f"its entry point '{point.name}' cannot be imported: {type(problem).__name__}: {problem}."
            package = point.dist.name if point.dist else point.module
            raise UsageError(package, reason, "Repair or uninstall that package.") from problem
