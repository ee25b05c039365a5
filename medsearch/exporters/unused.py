"""What a network does not use of its file: definitions, methods, attributes, imports."""

from __future__ import annotations

import ast
from abc import ABC
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from medsearch.exporters.fold import is_pure
from medsearch.exporters.layout import expression, is_text
from medsearch.exporters.names import asks, bound, classes, is_asked_for, is_module, is_self, live
from medsearch.exporters.walk import walk

_TORCH = frozenset(dir(nn.Module()))


def drop_unused(
    tree: ast.Module, names: Mapping[str, Any], modules: Mapping[str, list[nn.Module]], roots: Iterable[str]
) -> None:
    """Take out, in place, what the definitions called ``roots`` do not need."""
    _drop_empty_bases(tree, names)
    needed = live(tree, names, roots)
    tree.body = [node for node in tree.body if not bound(node) or needed.names & set(bound(node))]
    read = frozenset[str]().union(*(_read(node) for node in tree.body))
    for node in classes(tree):
        if is_module(node, names):
            node.body = [part for part in node.body if _is_needed(part, node, names, needed.attributes)]
            _drop_attributes(node, read, names, modules.get(node.name, []))
        else:
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            gone = [part for part in methods if not is_asked_for(part, node, names, needed.attributes)]
            node.body = [part for part in node.body if part not in gone]


def _drop_empty_bases(tree: ast.Module, names: Mapping[str, Any]) -> None:
    """A class that adds nothing to what it is made from is left out between that and what is made from it."""
    for node in classes(tree):
        if is_module(node, names) and all(is_text(part) for part in node.body):
            for other in classes(tree):
                if [expression(base) for base in other.bases] == [node.name]:
                    other.bases = node.bases


def _is_needed(part: ast.stmt, owner: ast.ClassDef, names: Mapping[str, Any], attributes: Iterable[str]) -> bool:
    if isinstance(part, ast.FunctionDef):
        empty = part.name == "__init__" and not part.args.args[1:] and not part.args.kwonlyargs
        if empty and [expression(node.value) for node in part.body if isinstance(node, ast.Expr)] == [
            "super().__init__()"
        ]:
            return len(part.body) > 1
        return is_asked_for(part, owner, names, attributes)
    if isinstance(part, ast.Assign | ast.AnnAssign):
        return all(asks(attributes, name, owner.name, names) for name in bound(part))
    return not isinstance(part, ast.Pass)


def _drop_attributes(
    owner: ast.ClassDef, read: frozenset[str], names: Mapping[str, Any], modules: Iterable[nn.Module]
) -> None:
    """Attributes that no code reads and that are no part of the weights."""
    outside = {base for base in names[owner.name].__mro__ if base.__module__ != names[owner.name].__module__}
    if outside - set(nn.Module.__mro__) - set(ABC.__mro__):
        return

    def kept(node: ast.stmt) -> bool:
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(target, ast.Attribute) or not is_self(target.value) or target.attr in _TORCH:
            return True
        if asks(read, target.attr, owner.name, names):
            return True
        values = [getattr(module, target.attr, None) for module in modules]
        return any(isinstance(value, nn.Module | Tensor) for value in values) or not is_pure(node.value, names)  # type: ignore[attr-defined]

    for part in owner.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            part.body = [node for node in part.body if is_text(node) or kept(node)]


def _read(node: ast.stmt) -> frozenset[str]:
    """Attributes whose value is read, rather than called."""
    owner = node if isinstance(node, ast.ClassDef) else None
    called = {id(part.func) for part in walk(node) if isinstance(part, ast.Call)}
    read = [part for part in walk(node) if isinstance(part, ast.Attribute) and id(part) not in called]
    loads = [part for part in read if isinstance(part.ctx, ast.Load)]
    return frozenset(f"{owner.name}.{part.attr}" if owner and is_self(part.value) else part.attr for part in loads)
