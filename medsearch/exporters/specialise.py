"""A file of general parts made into the file of one network: without knobs, checks, and branches that it never takes.

Partial evaluation, in passes over the syntax tree until nothing changes.  What is known comes from three places:
constructors are run and their tests looked at (``facts``), an attribute that is the same in all modules of a class is
read from them, and an argument that all calls give alike is written into the function.  What cannot be decided stays as
it is.  Every pass keeps what the file computes, and who writes the file compares it with the network.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from medsearch.exporters.calls import (
    callees,
    clone,
    constants,
    drop_parameter,
    inline,
    merge_clones,
    never_given,
    unread,
)
from medsearch.exporters.facts import Facts, mark_of, observe
from medsearch.exporters.fold import Scope, fold, is_pure, loaded, stored
from medsearch.exporters.locals import tidy
from medsearch.exporters.names import Uses, definitions, functions, is_module, runs_later, used_later
from medsearch.exporters.unused import drop_unused
from medsearch.exporters.walk import walk

_MOST_PASSES = 30
_CHANGING = {"training", "device", "dtype", "requires_grad", "is_cuda", "grad", "data"}


def specialise(
    tree: ast.Module, outputs: Collection[int | None], *, roots: Collection[str], frozen: Collection[str] = ()
) -> None:
    """Specialise a file in place to what its function ``build`` makes, for any number of outputs.

    Args:
        tree: a file that defines ``build``.
        outputs: arguments of ``build`` to look at; None stands for no argument.
        roots: names of definitions that are needed, and left as they are.
        frozen: names of others that are left as they are.
    """
    for _ in range(_MOST_PASSES):
        before = ast.dump(tree)
        _one_pass(tree, outputs, roots, {*roots, *frozen})
        if ast.dump(tree) == before:
            break
    merge_clones(tree)


def _one_pass(
    tree: ast.Module, outputs: Collection[int | None], roots: Collection[str], frozen: Collection[str]
) -> None:
    facts = observe(tree, outputs)
    drop_unused(tree, facts.names, facts.modules, roots)
    making = _making(tree, facts)
    if clone(tree, [function.name for function in making.values()]):
        return
    plain = _plain(tree, facts.names)
    known = _known(tree, facts)
    changing = frozenset(_CHANGING | _changed(tree, facts.names))
    for owner, function in functions(tree):
        if (owner or function).name in frozen:
            continue
        scope = Scope(
            names=facts.names,
            facts=facts if id(function) in making else None,
            modules=facts.modules.get(owner.name, []) if owner is not None else (),
            changing=changing,
            plain=plain,
        )
        fold(function, scope, known.get(id(function), {}))
        tidy(function, facts.names, plain, making=id(function) in making)
    for callee in callees(tree, facts.names):
        if _owner_name(tree, callee.function) in frozen:
            continue
        gone = [name for name in known.get(id(callee.function), {}) if not _reads_given(callee.function, name)]
        for name in dict.fromkeys([*gone, *unread(callee, facts.names, plain)]):
            if any(arg.arg == name for arg, _ in callee.parameters()):
                callee.remove(name)
        callee.drop_defaults()
    for function, arg, _ in list(never_given(tree, facts.names, facts.modules)):
        if not _reads_given(function, arg.arg) and _owner_name(tree, function) not in frozen:
            drop_parameter(function, arg.arg)
    while inline(tree, facts.names, plain, [function.name for function in making.values()]):
        pass


def _making(tree: ast.Module, facts: Facts) -> dict[int, ast.FunctionDef]:
    """Functions that run while the network is made, and only then, by id."""
    later = used_later(tree, facts.names, Uses(frozenset(definitions(tree)), frozenset()))
    found = {}
    for owner, function in functions(tree):
        if mark_of(function) in facts.ran and not runs_later(function, owner, facts.names, later):
            found[id(function)] = function
    return found


def _plain(tree: ast.Module, names: Mapping[str, Any]) -> frozenset[str]:
    """Functions of the file that do nothing but compute, or refuse; methods have a dot before their name."""
    found: frozenset[str] = frozenset()
    methods = Counter(function.name for owner, function in functions(tree) if owner is not None)
    while True:
        more = found
        for owner, function in functions(tree):
            name = function.name if owner is None else f".{function.name}"
            alone = owner is None or (methods[function.name] == 1 and not hasattr(Tensor, function.name))
            if alone and name not in more and function.name != "build" and not function.decorator_list:
                body = [part for node in function.body for part in _without_raises(node)]
                local = stored(function.body)
                writes = any(
                    isinstance(p, ast.Attribute | ast.Subscript) and not isinstance(p.ctx, ast.Load) for p in body
                )
                calls = [part for part in body if isinstance(part, ast.Call)]
                if not writes and all(_is_plain_call(call, names, more, local) for call in calls):
                    more |= {name}
        if more == found:
            return found
        found = more


def _without_raises(node: ast.AST) -> Iterable[ast.AST]:
    if isinstance(node, ast.Raise):
        return
    yield node
    for inner in ast.iter_child_nodes(node):
        yield from _without_raises(inner)


def _is_plain_call(call: ast.Call, names: Mapping[str, Any], plain: frozenset[str], local: set[str]) -> bool:
    """A call that computes, or adds to a list of the function itself."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "append":
        return isinstance(call.func.value, ast.Name) and call.func.value.id in local
    return is_pure(ast.Call(call.func, [], []), names, plain)


def _known(tree: ast.Module, facts: Facts) -> dict[int, dict[str, ast.expr]]:
    """Parameters with the only value that they are given, by the function's id."""
    found: dict[int, dict[str, ast.expr]] = {}
    for callee in callees(tree, facts.names):
        found[id(callee.function)] = constants(callee)
    for function, arg, default in never_given(tree, facts.names, facts.modules):
        found.setdefault(id(function), {})[arg.arg] = default
    return found


def _changed(tree: ast.Module, names: Mapping[str, Any]) -> set[str]:
    """Attributes that are assigned to outside of constructors, or twice."""
    found = set()
    for owner, function in functions(tree):
        count: Counter[str] = Counter()
        for node in walk(function):
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                count[node.attr] += 1
        making = owner is not None and function.name == "__init__" and is_module(owner, names)
        found |= {name for name, times in count.items() if times > 1 or not making}
    return found


def _reads_given(function: ast.FunctionDef, name: str) -> bool:
    """Whether a body may read what a parameter is given: not if it first gives it another value."""
    for node in function.body:
        if isinstance(node, ast.Assign) and name in stored(node.targets):
            return name in loaded([node.value])
        if name in loaded([node]):
            return True
    return False


def _owner_name(tree: ast.Module, function: ast.FunctionDef) -> str:
    return next((owner or found).name for owner, found in functions(tree) if found is function)
