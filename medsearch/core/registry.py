"""A table of named parts that fills itself: every module of one package is imported on first look-up."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from medsearch.core.errors import MedsearchError, SpaceError, suggest
from medsearch.core.plugins import use_installed


class Registry(Mapping[str, type]):
    """Names to classes of one kind, for example the token mixers.

    A part registers itself with a decorator in its own file; nothing else mentions it.  The file may lie in another
    package, which is then named by the user, or names itself (see ``medsearch.core.plugins``).

    Args:
        kind: how the parts are called in messages, for example ``"token mixer"``.
        package: the package whose modules are imported on first look-up.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package = kind, package
        self._parts: dict[str, type] = {}
        self._loaded = False

    def add(self, name: str) -> Callable[[type], type]:
        """Class decorator: make the class known under ``name``; two classes under one name are refused."""

        def register(part: type) -> type:
            if name in self._parts:
                other = self._parts[name]
                problem = f"is defined twice: in {other.__module__} and in {part.__module__}."
                raise SpaceError(f"{self.kind} '{name}'", problem, "Give one of them another name.")
            self._parts[name] = part
            return part

        return register

    def _load(self) -> dict[str, type]:
        if not self._loaded:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True
            use_installed()
        return self._parts

    def __getitem__(self, name: str) -> type:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())

    def find(self, name: str, *, where: str, error: type[MedsearchError] = SpaceError) -> type:
        """Like ``registry[name]``, with an ``error`` for people that says where the name was seen."""
        if name not in self:
            remedy = f"{suggest(name, self)}  A part of your own package: medsearch --plugin yourpackage.module ..."
            raise error(where, f"unknown {self.kind} '{name}'.", remedy)
        return self[name]

    def knobs(self, name: str) -> dict[str, Any]:
        """The keyword arguments a space may set on part ``name``, with their defaults.

        What the network fixes itself (the positional ``dim`` and the keywords without a default) is not a knob.
        """
        return {key: default for key, default in _keywords(self[name]) if default is not inspect.Parameter.empty}

    def given(self, name: str) -> set[str]:
        """The keyword arguments of part ``name`` that the network sets: those without a default."""
        return {key for key, default in _keywords(self[name]) if default is inspect.Parameter.empty}


@cache
def _keywords(part: type) -> tuple[tuple[str, Any], ...]:
    parameters = inspect.signature(part).parameters.values()
    return tuple((p.name, p.default) for p in parameters if p.kind is p.KEYWORD_ONLY)
