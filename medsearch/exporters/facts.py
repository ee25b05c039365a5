"""What the constructors of a file do in one network, seen by running them.

Constructors are given nothing but what the file itself writes down, and the number of classes; so a test that came out
the same way every time, for several numbers of classes, is as good as a constant.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType, ModuleType
from typing import Any

import torch
from torch import nn

from medsearch.exporters.walk import walk

_NAME, _SEEN = "_medsearch_written_file", "_seen_"
_WATCHED = ("min", "max")


@dataclass
class Facts:
    """What was seen, by the ``mark`` of a node in the tree that was run.

    Args:
        values: plain values of tests and of the smallest or largest of some; None stands in for other values.
        truths: what tests came out as.
        rounds: how often loops went round, each time.
        ran: functions that were called, as marks.
        modules: modules that were made, by the name of their class and of those that it is made from.
        names: everything the file defines.
    """

    values: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    truths: dict[int, set[bool]] = field(default_factory=lambda: defaultdict(set))
    rounds: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    ran: set[int] = field(default_factory=set)
    modules: dict[str, list[nn.Module]] = field(default_factory=lambda: defaultdict(list))
    names: dict[str, Any] = field(default_factory=dict)

    def test(self, mark: int, value: Any) -> Any:
        self.truths[mark].add(bool(value))
        return self.value(mark, value)

    def value(self, mark: int, value: Any) -> Any:
        kept = value if is_plain(value) else Ellipsis
        if not any(type(kept) is type(seen) and kept == seen for seen in self.values[mark]):
            self.values[mark].append(kept)
        return value

    def loop(self, mark: int, items: Iterable[Any]) -> Iterator[Any]:
        count = 0
        try:
            for item in items:
                count += 1
                yield item
        finally:
            self.rounds[mark].add(count)

    def call(self, mark: int) -> None:
        self.ran.add(mark)

    def truth(self, node: ast.AST) -> bool | None:
        """What a test always came out as; None if it differed, or was never made."""
        seen = self.truths.get(mark_of(node), set())
        return next(iter(seen)) if len(seen) == 1 else None

    def constant(self, node: ast.AST) -> tuple[Any, ...]:
        """The only value of an expression as a 1-tuple; nothing if there were others."""
        seen = self.values.get(mark_of(node), [])
        return tuple(seen) if len(seen) == 1 and seen[0] is not Ellipsis else ()


def is_plain(value: Any) -> bool:
    """Whether a value can be written down as a literal that compares equal."""
    if type(value) in (tuple, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (int, str, bool) or (type(value) is float and abs(value) < float("inf"))


def mark_of(node: ast.AST) -> int:
    """The number of a node; -1 for one that was made later."""
    return getattr(node, "mark", -1)


def observe(tree: ast.Module, outputs: Iterable[int | None]) -> Facts:
    """Run a file and its ``build``, for every number of ``outputs``; marks the nodes of the tree."""
    for mark, node in enumerate(walk(tree)):
        node.mark = mark  # type: ignore[attr-defined]
    facts = Facts()
    watched = ast.fix_missing_locations(_Watch().visit(copy.deepcopy(tree)))
    facts.names = run_file(compile(watched, "specialised.py", "exec", dont_inherit=True), **{_SEEN: facts})
    for count in outputs:
        for module in _made(facts, [] if count is None else [count]).modules():
            for kind in type(module).__mro__:
                if kind.__module__ == _NAME:
                    facts.modules[kind.__name__].append(module)
    return facts


def run_file(code: CodeType, **given: Any) -> dict[str, Any]:
    """Run a file as a module of a name that no other has, and give what it defines; ``given`` is there before."""
    module = ModuleType(_NAME)
    vars(module).update(given, __file__=code.co_filename)
    sys.modules[_NAME] = module  # dataclasses look themselves up
    try:
        exec(code, vars(module))
    finally:
        del sys.modules[_NAME]
    return vars(module)


def _made(facts: Facts, arguments: list[int]) -> nn.Module:
    """The network, without memory for its weights where its constructors can do without them."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return facts.names["build"](*arguments)
        except (NotImplementedError, RuntimeError):
            return facts.names["build"](*arguments)


class _Watch(ast.NodeTransformer):
    """Report tests, loops, calls of functions and some values inside functions to the facts."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.body = [self.visit(statement) for statement in node.body]
        place = 1 if ast.get_docstring(node) is not None else 0
        node.body.insert(place, ast.Expr(_report("call", node)))
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.body = [self.visit(part) if isinstance(part, ast.FunctionDef) else part for part in node.body]
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        blocks = (ast.FunctionDef, ast.ClassDef)
        node.body = [self.visit(part) if isinstance(part, blocks) else part for part in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        node.value = self.visit(node.value) if node.value else None
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        return self._tested(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        return self._tested(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        node.values = [_report("test", value, value) for value in node.values]
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = _report("loop", node, node.iter)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        watched = isinstance(node.func, ast.Name) and node.func.id in _WATCHED
        return _report("value", node, node) if watched else node

    def _tested(self, node: ast.If | ast.IfExp) -> ast.AST:
        mark = node.test
        self.generic_visit(node)
        node.test = _report("test", mark, node.test)
        return node


def _report(kind: str, node: ast.AST, *values: ast.expr) -> ast.Call:
    func = ast.Attribute(ast.Name(_SEEN, ast.Load()), kind, ast.Load())
    return ast.Call(func, [ast.Constant(mark_of(node)), *values], [])
