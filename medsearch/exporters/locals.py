"""Local names of a function that say nothing: values that nobody reads, and names that stand for one use alone."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medsearch.exporters.fold import free, is_literal, is_pure, loaded, stored
from medsearch.exporters.names import is_self
from medsearch.exporters.walk import walk

_LOOPS = (ast.For, ast.While, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef)


def tidy(function: ast.FunctionDef, names: Mapping[str, Any], plain: Iterable[str], *, making: bool) -> None:
    """Remove such names in place; ``making`` if the function runs only while the network is made."""
    before = ""
    while (text := ast.dump(function)) != before:
        before = text
        if making:
            function.body = _collected(function.body)
        _drop_unread(function, names, plain)
        _replace_aliases(function)
        _return_at_once(function)
        if making:
            _replace_single(function, names, plain)
        else:
            _replace_entry(function)
    function.body = function.body or [ast.Pass()]


def _collected(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """A list that is written down and added to right after is written down as a whole."""
    done: list[ast.stmt] = []
    for node in body:
        last = done[-1] if done else None
        more = _added(node)
        made = (
            isinstance(last, ast.Assign) and isinstance(last.value, ast.List) and isinstance(last.targets[0], ast.Name)
        )
        if made and more is not None and last.targets[0].id == more[0] and more[0] not in loaded(more[1]):  # type: ignore[union-attr]
            last.value.elts += more[1]  # type: ignore[union-attr]
        else:
            done.append(node)
    return done


def _added(node: ast.stmt) -> tuple[str, list[ast.expr]] | None:
    """The name of a list and what a statement adds to it."""
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.List):
        return (node.target.id, node.value.elts) if isinstance(node.op, ast.Add) else None
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append":
        return (call.func.value.id, call.args) if isinstance(call.func.value, ast.Name) else None
    return None


def _drop_unread(function: ast.FunctionDef, names: Mapping[str, Any], plain: Iterable[str]) -> None:
    read = set(loaded(function.body))

    def kept(node: ast.stmt) -> bool:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        local = all(
            isinstance(part, ast.Name | ast.Tuple | ast.Starred) for target in targets for part in _parts(target)
        )
        return not local or bool(stored(targets) & read) or not is_pure(node.value, names, plain)

    for block in _blocks(function):
        block[:] = [node for node in block if kept(node)]
    function.body = [
        node
        for place, node in enumerate(function.body)
        if not _is_overwritten(node, function.body[place + 1 :], names, plain)
    ]


def _is_overwritten(node: ast.stmt, rest: Sequence[ast.stmt], names: Mapping[str, Any], plain: Iterable[str]) -> bool:
    """Whether a name gets another value before it is read."""
    if (
        not isinstance(node, ast.Assign)
        or not isinstance(node.targets[0], ast.Name)
        or not is_pure(node.value, names, plain)
    ):
        return False
    name = node.targets[0].id
    later = next((other for other in rest if name in {*loaded([other]), *stored([other])}), None)
    if not isinstance(later, ast.Assign) or name in loaded([later.value]):
        return False
    return any(isinstance(target, ast.Name) and target.id == name for target in later.targets)


def _parts(target: ast.expr) -> list[ast.AST]:
    return [part for part in walk(target) if isinstance(part, ast.expr)]


def _blocks(function: ast.FunctionDef) -> list[list[ast.stmt]]:
    found = []
    for node in walk(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                found.append(block)
    return found


def _singles(function: ast.FunctionDef) -> dict[str, ast.Assign]:
    """Names that are assigned to once, at the top level of a function."""
    parameters = {node.arg for node in walk(function) if isinstance(node, ast.arg)}
    count = Counter(
        node.id for node in walk(function) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    )
    found = {}
    for node in function.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if count[name] == 1 and name not in parameters:
                found[name] = node
    return found


def _replace_aliases(function: ast.FunctionDef) -> None:
    """A name for a parameter, for another name or for a constant is replaced by what it stands for."""
    changed = Counter(
        node.id for node in walk(function) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    )
    for name, node in _singles(function).items():
        value = node.value
        alias = isinstance(value, ast.Name) and changed[value.id] == (0 if value.id in _given(function) else 1)
        if (alias and value.id != name) or (is_literal(value) and not isinstance(value, ast.List)):  # type: ignore[attr-defined]
            if isinstance(value, ast.Dict) and loaded(function.body).count(name) > 1:
                continue
            function.body.remove(node)
            _substitute(function, {name: value})
            return


def _return_at_once(function: ast.FunctionDef) -> None:
    """``y = ...`` and ``return y`` as one statement."""
    before, last = (None, *function.body)[-2:]
    if isinstance(last, ast.Return) and isinstance(last.value, ast.Name) and isinstance(before, ast.Assign):
        if [ast.dump(target) for target in before.targets] == [ast.dump(ast.Name(last.value.id, ast.Store()))]:
            last.value = before.value
            function.body.remove(before)


def _given(function: ast.FunctionDef) -> set[str]:
    return {node.arg for node in walk(function.args) if isinstance(node, ast.arg)}


def _replace_single(function: ast.FunctionDef, names: Mapping[str, Any], plain: Iterable[str]) -> None:
    """What is read once, and not in a loop, is written where it is read."""
    read = Counter(loaded(function.body))
    inner = [node for statement in function.body for node in walk(statement) if isinstance(node, _LOOPS)]
    repeated = set(loaded(inner))
    changed = {name for name, count in Counter(_changes(function)).items() if count > 1 or name in _given(function)}
    for name, node in _singles(function).items():
        if read[name] != 1 or name in repeated or free(node.value) & changed:
            continue
        later = function.body[function.body.index(node) + 1 :]
        adjacent = bool(later) and name in loaded([later[0]])
        movable = is_pure(node.value, names, plain) and not _reads_self(node.value)
        listed = isinstance(node.value, ast.List) or function.name != "__init__"
        if (movable or (adjacent and listed)) and (listed or is_literal(node.value)):
            function.body.remove(node)
            _substitute(function, {name: node.value})
            return


def _replace_entry(function: ast.FunctionDef) -> None:
    """``x = features[-1]``, read once by the next statement, is written there."""
    for place, node in enumerate(function.body[:-1]):
        if (
            not isinstance(node, ast.Assign)
            or not isinstance(node.value, ast.Subscript)
            or node not in _singles(function).values()
        ):
            continue
        name, following = node.targets[0].id, function.body[place + 1]  # type: ignore[attr-defined]
        short = isinstance(node.value.value, ast.Name) and isinstance(node.value.slice, ast.Constant | ast.UnaryOp)
        simple = isinstance(following, ast.Assign | ast.Return | ast.Expr)
        if short and simple and loaded(function.body).count(name) == 1 and name in loaded([following]):
            function.body.remove(node)
            _substitute(function, {name: node.value})
            return


def _changes(function: ast.FunctionDef) -> list[str]:
    return [node.id for node in walk(function) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)]


def _reads_self(node: ast.expr) -> bool:
    return any(isinstance(part, ast.expr) and is_self(part) for part in walk(node))


def _substitute(function: ast.FunctionDef, values: Mapping[str, ast.expr]) -> None:
    replace = Replace(values)
    function.body = [replace.visit(node) for node in function.body]


class Replace(ast.NodeTransformer):
    """Write expressions in place of names that are read."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = isinstance(node.ctx, ast.Load) and node.id in self.values
        return copy.deepcopy(self.values[node.id]) if found else node
