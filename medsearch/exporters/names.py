"""Who names whom in a file: what is used by what, which code runs when a network is made and which when it is used."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from medsearch.exporters.walk import walk

Function = ast.FunctionDef
_ENTRIES = ("forward", "features")


@dataclass(frozen=True)
class Uses:
    """Names at the top of a file, and names behind dots; those behind ``self.`` with their class: ``Mlp.norm``."""

    names: frozenset[str]
    attributes: frozenset[str]

    def __or__(self, other: Uses) -> Uses:
        return Uses(self.names | other.names, self.attributes | other.attributes)


def definitions(tree: ast.Module) -> dict[str, ast.stmt]:
    """Classes, functions and constants at the top of a file."""
    return {name: node for node in tree.body for name in bound(node)}


def bound(statement: ast.stmt) -> list[str]:
    """The names that a definition at the top of a file gives a meaning."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AnnAssign):
        return []
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return [node.id for target in targets for node in walk(target) if isinstance(node, ast.Name)]


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def functions(tree: ast.Module) -> Iterator[tuple[ast.ClassDef | None, Function]]:
    """Every function at the top and every method with its class."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield None, node
        elif isinstance(node, ast.ClassDef):
            yield from ((node, part) for part in node.body if isinstance(part, ast.FunctionDef))


def uses(nodes: Iterable[ast.AST], owner: ast.ClassDef | None = None) -> Uses:
    """What is named in some nodes, in annotations too; ``owner`` is the class of ``self``."""
    found = [inner for node in nodes for inner in walk(node)]
    names = {node.id for node in found if isinstance(node, ast.Name)}
    read = [node for node in found if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    attributes = {f"{owner.name}.{node.attr}" if owner and is_self(node.value) else node.attr for node in read}
    return Uses(frozenset(names), frozenset(attributes))


def is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def asks(attributes: Iterable[str], name: str, owner: str, names: Mapping[str, Any]) -> bool:
    """Whether ``name`` of the class ``owner`` is among some attributes, by itself or for a relative of the class."""
    if name in attributes:
        return True
    found = names.get(owner)
    for attribute in attributes:
        other, _, last = attribute.rpartition(".")
        if last == name and other:
            relative = names.get(other)
            if other == owner or not (isinstance(found, type) and isinstance(relative, type)):
                return True
            if issubclass(found, relative) or issubclass(relative, found):
                return True
    return False


def is_module(node: ast.ClassDef, names: Mapping[str, Any]) -> bool:
    """Whether a class of the file is a module of torch."""
    found = names.get(node.name)
    return isinstance(found, type) and issubclass(found, nn.Module)


def is_asked_for(method: Function, owner: ast.ClassDef, names: Mapping[str, Any], attributes: Iterable[str]) -> bool:
    """Whether a method is called by a name in ``attributes``, or by Python or torch."""
    if method.name in _ENTRIES or method.name.startswith("__"):
        return True
    if asks(attributes, method.name, owner.name, names):
        return True
    found = names.get(owner.name)
    outside = [
        base for base in getattr(found, "__mro__", ())[1:] if base.__module__ != getattr(found, "__module__", "")
    ]
    return any(method.name in vars(base) for base in outside)


def live(tree: ast.Module, names: Mapping[str, Any], roots: Iterable[str]) -> Uses:
    """What is needed, one through the other, by the definitions called ``roots``."""
    return _closure(tree, names, Uses(frozenset(roots), frozenset()), making=True)


def used_later(tree: ast.Module, names: Mapping[str, Any], within: Uses) -> Uses:
    """What is needed by the methods of modules but their constructors: all that runs when a network is used."""
    found = Uses(frozenset(), frozenset())
    for node in classes(tree):
        if node.name in within.names and is_module(node, names):
            for part in node.body:
                method = isinstance(part, ast.FunctionDef) and part.name != "__init__"
                if method and is_asked_for(part, node, names, ()):  # type: ignore[arg-type]
                    found |= uses([part], node)
    return _closure(tree, names, found, making=False)


def runs_later(method: Function, owner: ast.ClassDef | None, names: Mapping[str, Any], later: Uses) -> bool:
    """Whether a function may run when a network is used, if ``later`` is what is needed then."""
    if owner is None:
        return method.name in later.names
    if is_module(owner, names):
        return method.name != "__init__" and is_asked_for(method, owner, names, later.attributes)
    return owner.name in later.names


def _closure(tree: ast.Module, names: Mapping[str, Any], start: Uses, *, making: bool) -> Uses:
    known, before = definitions(tree), None
    todo = {name: _parts(node, names, making=making) for name, node in known.items()}
    while start != before:
        before = start
        for name in start.names & set(todo):
            owner = known[name]
            for part in list(todo[name]):
                method = isinstance(owner, ast.ClassDef) and isinstance(part, ast.FunctionDef)
                if not method or is_asked_for(part, owner, names, start.attributes):  # type: ignore[arg-type]
                    todo[name].remove(part)
                    start |= uses([part], owner if isinstance(owner, ast.ClassDef) else None)
    return start


def _parts(node: ast.stmt, names: Mapping[str, Any], *, making: bool) -> list[ast.AST]:
    """What belongs to a definition, and is needed with it or, if it is a method, when it is asked for."""
    if not isinstance(node, ast.ClassDef):
        return [node]
    parts: list[ast.AST] = [*node.bases, *node.decorator_list, *node.keywords]
    for part in node.body:
        constructor = isinstance(part, ast.FunctionDef) and part.name == "__init__"
        method = isinstance(part, ast.FunctionDef) and not constructor
        if making or method or not is_module(node, names):
            parts.append(part)
    return parts
