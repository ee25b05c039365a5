"""Calls and what is called: arguments that never change or are never read, functions that are one expression."""

from __future__ import annotations

import ast
import builtins
import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medsearch.exporters.fold import free, is_literal, is_pure, loaded, stored
from medsearch.exporters.layout import expression, is_text
from medsearch.exporters.locals import Replace
from medsearch.exporters.names import classes, definitions, functions, is_module
from medsearch.exporters.walk import walk

_SHORT = 32  # characters of an expression that says as much as a name for it
_TAKEN = {*dir(torch.Tensor), *dir(nn.Module), *dir(nn.Sequential), *dir(str), *dir(list), *dir(dict), *dir(tuple)}


@dataclass
class Callee:
    """A function of the file and all calls of it, if these are all that uses it.

    Args:
        function: the definition.
        calls: every call.
        method: whether the first parameter is the object.
        kept: parameters that stay, whatever they are given.
    """

    function: ast.FunctionDef
    calls: list[ast.Call]
    method: bool
    kept: frozenset[str] = frozenset()

    def parameters(self) -> list[tuple[ast.arg, ast.expr | None]]:
        """Parameters with their defaults, less the object."""
        given = self.function.args
        defaults = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
        plain = list(zip(given.args, defaults, strict=True))[1 if self.method else 0 :]
        return [*plain, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]

    def argument(self, call: ast.Call, name: str) -> ast.expr | None:
        """What a call gives for a parameter: an argument or the default."""
        for word in call.keywords:
            if word.arg == name:
                return word.value
        positional = [arg.arg for arg in self.function.args.args][1 if self.method else 0 :]
        place = positional.index(name) if name in positional else len(call.args)
        if place < len(call.args):
            return call.args[place]
        return next((default for arg, default in self.parameters() if arg.arg == name), None)

    def remove(self, name: str) -> None:
        """Take a parameter out of the signature and of all calls."""
        positional = [arg.arg for arg in self.function.args.args]
        place = positional.index(name) - (1 if self.method else 0) if name in positional else None
        for call in self.calls:
            if place is not None and place < len(call.args):
                del call.args[place]
            call.keywords = [word for word in call.keywords if word.arg != name]
        given = self.function.args
        if name in positional:
            at = positional.index(name) - (len(given.args) - len(given.defaults))
            if at >= 0:
                del given.defaults[at]
            del given.args[positional.index(name)]
        else:
            at = [arg.arg for arg in given.kwonlyargs].index(name)
            del given.kwonlyargs[at], given.kw_defaults[at]

    def drop_defaults(self) -> None:
        """Take away defaults that no call relies on."""
        given = self.function.args
        optional = [arg.arg for arg in given.args[len(given.args) - len(given.defaults) :]]
        while given.defaults and all(self._is_given(call, optional[0]) for call in self.calls):
            del given.defaults[0], optional[0]
        for place, arg in enumerate(given.kwonlyargs):
            if all(self._is_given(call, arg.arg) for call in self.calls):
                given.kw_defaults[place] = None

    def _is_given(self, call: ast.Call, name: str) -> bool:
        positional = [arg.arg for arg in self.function.args.args][1 if self.method else 0 :]
        by_place = name in positional and positional.index(name) < len(call.args)
        return by_place or any(word.arg == name for word in call.keywords)


def callees(tree: ast.Module, names: Mapping[str, Any]) -> Iterator[Callee]:
    """Functions, constructors and methods of which all calls are known and plain."""
    known, calls, elsewhere = definitions(tree), _calls(tree), _elsewhere(tree)
    bases = {base.id for node in classes(tree) for base in node.bases if isinstance(base, ast.Name)}
    methods = Counter(method.name for owner, method in functions(tree) if owner is not None)
    for owner, function in functions(tree):
        if function.args.vararg or function.args.kwarg or function.args.posonlyargs or function.name == "build":
            continue
        if any(not _is_property(node) for node in function.decorator_list) or function.decorator_list:
            continue
        kept: frozenset[str] = frozenset()
        if owner is None:
            found, name = calls.get(function.name, []), function.name
            if name in elsewhere or known[name] is not function:
                continue
        elif function.name == "__init__" and is_module(owner, names):
            found = [*calls.get(owner.name, []), *_super_calls(tree, owner)]
            if owner.name in elsewhere or any(_inherits(node, owner) and not _has_init(node) for node in classes(tree)):
                continue
            kept = frozenset(arg.arg for arg in function.args.args if _is_int(arg)) if owner.name not in bases else kept
        else:
            found = calls.get(f".{function.name}", [])
            private = methods[function.name] == 1 and function.name not in _TAKEN
            if not private or f".{function.name}" in elsewhere:
                continue
        if all(_is_plain(call) for call in found) and found:
            yield Callee(function, found, owner is not None, kept)


def constants(callee: Callee) -> dict[str, ast.expr]:
    """Parameters that every call gives the same constant."""
    found = {}
    for arg, _ in callee.parameters():
        values = [callee.argument(call, arg.arg) for call in callee.calls]
        first = values[0]
        if arg.arg in callee.kept or first is None or not _is_constant(first):
            continue
        if all(value is not None and ast.dump(value) == ast.dump(first) for value in values):
            found[arg.arg] = first
    return found


def unread(callee: Callee, names: Mapping[str, Any], plain: Iterable[str]) -> list[str]:
    """Parameters that the body does not read."""
    read = set(loaded(callee.function.body))
    found = []
    for arg, _ in callee.parameters():
        given = [callee.argument(call, arg.arg) for call in callee.calls]
        if arg.arg not in read and all(value is None or is_pure(value, names, plain) for value in given):
            found.append(arg.arg)
    return found


def never_given(
    tree: ast.Module, names: Mapping[str, Any], modules: Mapping[str, list[nn.Module]]
) -> Iterator[tuple[ast.FunctionDef, ast.arg, ast.expr]]:
    """Parameters of ``forward`` that no call gives, with their defaults."""
    known: dict[str, list[ast.Call]] = {}
    unknown: list[ast.Call] = []
    for owner, method in functions(tree):
        for call in (node for node in walk(method) if isinstance(node, ast.Call)):
            called = _called(call, owner, modules)
            for name in called or ():
                known.setdefault(name, []).append(call)
            if called is None and not _is_known(call, names):
                unknown.append(call)
    for node in classes(tree):
        function = _method(node, "forward")
        if function is None or node.name not in modules:
            continue
        callee = Callee(function, [*known.get(node.name, []), *unknown], True)
        positional = [arg.arg for arg in function.args.args][1:]
        for arg, default in callee.parameters():
            place = positional.index(arg.arg) if arg.arg in positional else len(positional)
            given = any(
                (arg.arg in positional and len(call.args) > place)
                or (arg.arg in positional and any(isinstance(part, ast.Starred) for part in call.args))
                or any(word.arg in (None, arg.arg) for word in call.keywords)
                for call in callee.calls
            )
            if default is not None and not given:
                yield function, arg, default


def drop_parameter(function: ast.FunctionDef, name: str) -> None:
    """Take a parameter that no call gives out of a signature."""
    Callee(function, [], True).remove(name)


def inline(tree: ast.Module, names: Mapping[str, Any], plain: Iterable[str], making: Iterable[str]) -> bool:
    """Write the expression of a function in place of calls of it, where it says as much; whether anything changed.

    ``making`` are functions that run only while the network is made: there all that can be is written out.
    """
    found, local = False, _locals(tree)
    for callee in list(callees(tree, names)):
        function = callee.function
        value = _only_value(function)
        if value is None or function.name == "__init__":
            continue
        free_names = free(value) - {arg.arg for arg, _ in callee.parameters()} - {"self"}
        short = len(expression(value)) <= _SHORT and not any(isinstance(part, ast.GeneratorExp) for part in walk(value))
        short = short and not (callee.method and "self" in loaded([value]))
        once = len(callee.calls) == 1 and len(expression(value)) <= 80 and not callee.method
        if not (function.name in making or is_literal(value) or short or once):
            continue
        if not all(_fits(callee, call, value, names, plain) for call in callee.calls):
            continue
        if any(free_names & local.get(id(call), set()) for call in callee.calls):
            continue
        swap = {id(call): _written(callee, call, value) for call in callee.calls}
        if any(id(part) in swap for part in walk(function)):
            continue
        _Swap(swap).visit(tree)
        found = True
    return found


def clone(tree: ast.Module, making: Iterable[str]) -> bool:
    """Give each call of a function that runs only while the network is made one of its own; whether there were any."""
    known, found = definitions(tree), False
    calls, elsewhere = _calls(tree), _elsewhere(tree)
    for name in making:
        function = known.get(name)
        if not isinstance(function, ast.FunctionDef) or name in elsewhere or name == "build":
            continue
        inner = {id(node) for node in walk(function)}
        for call in [call for call in calls.get(name, []) if id(call) not in inner][1:]:
            twin = copy.deepcopy(function)
            twin.name = _free_name(name, known)
            known[twin.name] = twin
            call.func.id = twin.name  # type: ignore[attr-defined]
            tree.body.insert(tree.body.index(function) + 1, twin)
            found = True
    return found


def merge_clones(tree: ast.Module) -> None:
    """Functions that came out alike are one again; one that is left of many has its own name."""
    known = definitions(tree)
    for name, node in list(known.items()):
        base = name.partition("__v")[0]
        if base == name or not isinstance(node, ast.FunctionDef):
            continue
        other = known.get(base)
        if other is None:
            _rename(tree, name, base)
            known[base] = node
            node.name = base
        elif isinstance(other, ast.FunctionDef) and _alike(node, other):
            _rename(tree, name, base)
            tree.body.remove(node)


def _alike(one: ast.FunctionDef, other: ast.FunctionDef) -> bool:
    twin = copy.deepcopy(one)
    twin.name = other.name
    return ast.dump(twin) == ast.dump(other)


def _rename(tree: ast.Module, name: str, new: str) -> None:
    for node in walk(tree):
        if isinstance(node, ast.Name) and node.id == name:
            node.id = new


def _free_name(name: str, known: Mapping[str, ast.stmt]) -> str:
    base, count = name.partition("__v")[0], 2
    while f"{base}__v{count}" in known:
        count += 1
    return f"{base}__v{count}"


def _calls(tree: ast.Module) -> dict[str, list[ast.Call]]:
    """Calls by the name that is called, those of methods with a dot in front."""
    found: dict[str, list[ast.Call]] = {}
    for node in walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.setdefault(node.func.id, []).append(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.setdefault(f".{node.func.attr}", []).append(node)
    return found


def _elsewhere(tree: ast.Module) -> set[str]:
    """Names that are read other than to call them, or to say a type."""
    said: set[int] = set()
    for node in walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.Call):
            said.add(id(node.func))
        elif isinstance(node, ast.arg | ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            parts = [node.returns]
        elif isinstance(node, ast.ClassDef):
            parts = list(node.bases)
        said |= {id(part) for whole in parts if whole is not None for part in walk(whole)}
    found = set()
    for node in walk(tree):
        if id(node) not in said and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif id(node) not in said and isinstance(node, ast.Attribute):
            found.add(f".{node.attr}")
    return found


def _super_calls(tree: ast.Module, owner: ast.ClassDef) -> list[ast.Call]:
    """Calls of ``super().__init__`` in classes that are made from this one."""
    found = []
    for node in classes(tree):
        if _inherits(node, owner):
            for part in walk(node):
                if isinstance(part, ast.Call) and expression(part.func) == "super().__init__":
                    found.append(part)
    return found


def _inherits(node: ast.ClassDef, owner: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == owner.name for base in node.bases)


def _has_init(node: ast.ClassDef) -> bool:
    return _method(node, "__init__") is not None


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == name), None)


def _is_property(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "property"


def _is_int(arg: ast.arg) -> bool:
    return isinstance(arg.annotation, ast.Name) and arg.annotation.id == "int"


def _is_plain(call: ast.Call) -> bool:
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    return not starred and all(word.arg is not None for word in call.keywords)


def _is_constant(node: ast.expr) -> bool:
    torch_name = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("nn", "F")
    return torch_name or (is_literal(node) and not isinstance(node, ast.List | ast.Dict))


def _called(call: ast.Call, owner: ast.ClassDef | None, modules: Mapping[str, list[nn.Module]]) -> set[str] | None:
    """The classes of the module that is called by ``self.one.two(...)``; None if that cannot be said."""
    path, node = [], call.func
    while isinstance(node, ast.Attribute):
        path.append(node.attr)
        node = node.value
    if not (isinstance(node, ast.Name) and node.id == "self" and owner is not None):
        return None
    found = set()
    for module in modules.get(owner.name, []):
        value: Any = module
        for name in reversed(path):
            value = getattr(value, name, None)
        if value is not None:
            found |= {kind.__name__ for kind in type(value).__mro__}
    return found or None


def _is_known(call: ast.Call, names: Mapping[str, Any]) -> bool:
    """Whether a call is surely not one of a module: of a function by its name, or of a method with its own."""
    if isinstance(call.func, ast.Name):
        return call.func.id in names or hasattr(builtins, call.func.id)
    if isinstance(call.func, ast.Attribute):
        return call.func.attr != "forward"
    return False


def _only_value(function: ast.FunctionDef) -> ast.expr | None:
    """The expression that a function returns, if it does nothing else."""
    body = [node for node in function.body if not is_text(node)]
    return body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None


def _fits(callee: Callee, call: ast.Call, value: ast.expr, names: Mapping[str, Any], plain: Iterable[str]) -> bool:
    """Whether arguments can be written where parameters are read: each is read at most once, or costs nothing."""
    read, bound = Counter(loaded([value])), stored([value])
    inner = {
        name for part in walk(value) if isinstance(part, ast.GeneratorExp | ast.ListComp) for name in loaded([part])
    }
    if callee.method and not (
        isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name | ast.Attribute)
    ):
        return "self" not in read
    for arg, _ in callee.parameters():
        given = callee.argument(call, arg.arg)
        if given is None or bound & set(loaded([given])):
            return False
        simple = isinstance(given, ast.Name | ast.Constant) or is_literal(given) or _is_path(given)
        if read[arg.arg] == 0 and not is_pure(given, names, plain):
            return False
        if not simple and (read[arg.arg] > 1 or arg.arg in inner):
            return False
    return True


def _is_path(node: ast.expr) -> bool:
    """Whether an expression is a name with attributes behind it."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _written(callee: Callee, call: ast.Call, value: ast.expr) -> ast.expr:
    values = {arg.arg: callee.argument(call, arg.arg) for arg, _ in callee.parameters()}
    if callee.method:
        values["self"] = call.func.value  # type: ignore[attr-defined]
    return Replace({name: node for name, node in values.items() if node is not None}).visit(copy.deepcopy(value))


def _locals(tree: ast.Module) -> dict[int, set[str]]:
    """Local names where each call stands."""
    found: dict[int, set[str]] = {}
    for _, function in functions(tree):
        local = {node.arg for node in walk(function) if isinstance(node, ast.arg)} | stored(function.body)
        found |= {id(part): local for part in walk(function) if isinstance(part, ast.Call)}
    return found


class _Swap(ast.NodeTransformer):
    def __init__(self, swap: Mapping[int, ast.expr]) -> None:
        self.swap = swap

    def visit_Call(self, node: ast.Call) -> ast.AST:
        new = self.swap.get(id(node))
        self.generic_visit(node)
        return node if new is None else self.generic_visit(new) if isinstance(new, ast.Call) else new
