"""Constants folded into the body of a function: what is known is computed, what is never reached goes."""

from __future__ import annotations

import ast
import builtins
import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from medsearch.exporters.facts import Facts, is_plain, mark_of
from medsearch.exporters.layout import expression, is_text
from medsearch.exporters.names import is_self
from medsearch.exporters.walk import walk

_PURE = frozenset(
    "abs all any bool dict enumerate float int isinstance len list max min pow range reversed round sorted str sum "
    "tuple zip".split()
)
_MOST_ROUNDS = 6
_MUTATING = {"append", "extend", "insert", "pop", "remove", "clear", "update", "register_buffer", "register_parameter"}


@dataclass
class Scope:
    """What is known where a function stands.

    Args:
        names: what the file defines, by name.
        facts: what was seen, if the function runs only while the network is made.
        modules: every ``self``, in a method of a module.
        changing: names of attributes that may change once a module is made.
        plain: functions of the file whose calls may be computed beforehand.
    """

    names: Mapping[str, Any]
    facts: Facts | None = None
    modules: Sequence[nn.Module] = ()
    changing: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()


def fold(function: ast.FunctionDef, scope: Scope, known: Mapping[str, ast.expr]) -> None:
    """Fold the body of a function in place; ``known`` are parameters that have always the same value."""
    folder = _Folder(scope, local_names(function), {name: value for name, value in known.items()})
    doc = function.body[:1] if is_text(function.body[0]) else []
    function.body = [*doc, *folder.block(function.body[len(doc) :])] or [ast.Pass()]


def local_names(function: ast.FunctionDef) -> set[str]:
    """Parameters and everything that is assigned to."""
    arguments = [node.arg for node in walk(function.args) if isinstance(node, ast.arg)]
    inner = [node.arg for node in walk(function) if isinstance(node, ast.arg)]
    return {*arguments, *inner, *stored(function.body)}


def stored(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that are assigned to in some nodes."""
    found = (inner for node in nodes for inner in walk(node))
    return {node.id for node in found if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}


def loaded(nodes: Iterable[ast.AST]) -> list[str]:
    """Names that are read in some nodes, as often as they are."""
    found = (inner for node in nodes for inner in walk(node))
    return [node.id for node in found if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]


def free(node: ast.AST) -> set[str]:
    """Names that an expression reads from outside of itself."""
    inner = {part.arg for part in walk(node) if isinstance(part, ast.arg)}
    return set(loaded([node])) - stored([node]) - inner


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is a constant, or a tuple, list or dict of such."""
    if isinstance(node, ast.Tuple | ast.List):
        return all(map(is_literal, node.elts))
    if isinstance(node, ast.Dict):
        return all(key is not None and is_literal(key) for key in node.keys) and all(map(is_literal, node.values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return isinstance(node.operand, ast.Constant)
    return isinstance(node, ast.Constant)


def literal(value: Any) -> ast.expr:
    """A plain value as an expression."""
    return ast.parse(repr(value), mode="eval").body


def is_pure(node: ast.AST, names: Mapping[str, Any], plain: Iterable[str] = ()) -> bool:
    """Whether computing an expression changes nothing, as far as can be seen."""
    for part in walk(node):
        if isinstance(part, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
            return False
        if not isinstance(part, ast.Call):
            continue
        func = part.func
        if isinstance(func, ast.Name):
            found = names.get(func.id)
            record = isinstance(found, type) and issubclass(found, tuple)
            if not (
                func.id in _PURE or func.id in plain or record or getattr(found, "__module__", "") in _PURE_MODULES
            ):
                return False
        elif isinstance(func, ast.Attribute):
            owner = names.get(func.value.id) if isinstance(func.value, ast.Name) else None
            if owner is torch or owner is F or owner is math:
                continue
            if f".{func.attr}" in plain:
                continue
            method = any(hasattr(kind, func.attr) for kind in (torch.Tensor, str, int, tuple))
            if not method or func.attr.endswith("_") or func.attr in _MUTATING or is_self(func.value):
                return False
        else:
            return False
    return True


_PURE_MODULES = ("math", "itertools", "functools")


@dataclass
class _Folder(ast.NodeTransformer):
    scope: Scope
    locals: set[str]
    known: dict[str, ast.expr]
    inner: list[str] = field(default_factory=list)
    something: set[str] = field(default_factory=set)

    # -- statements --------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Statements folded one after the other; what stands behind a return goes."""
        done: list[ast.stmt] = []
        todo = list(body)
        while todo:
            statement = todo.pop(0)
            folded = self.statement(statement)
            if folded is None:
                continue
            if isinstance(folded, list):
                todo = [*folded, *todo]
                continue
            done.append(folded)
            if isinstance(folded, ast.Return | ast.Raise | ast.Continue | ast.Break):
                break
        return done

    def statement(self, node: ast.stmt) -> ast.stmt | list[ast.stmt] | None:
        """A statement folded; none if it does nothing; a list if others, not yet folded, stand in its place."""
        if isinstance(node, ast.If):
            return self._if(node)
        if isinstance(node, ast.For):
            return self._for(node)
        if isinstance(node, ast.Assert | ast.Pass):
            return None
        if isinstance(node, ast.With):
            node.items = [self.visit(item) for item in node.items]
            node.body = self.block(node.body)
            return node if node.body else None
        if isinstance(node, ast.Assign):
            return self._assign(node)
        if isinstance(node, ast.AnnAssign):
            return self._annotated(node)
        if isinstance(node, ast.AugAssign):
            return self._augmented(node)
        if isinstance(node, ast.Expr):
            node.value = self.visit(node.value)
            return (
                None
                if isinstance(node.value, ast.Constant)
                or is_pure(node.value, self.scope.names, self.scope.plain)
                or self._is_check(node.value)
                else node
            )
        if isinstance(node, ast.While | ast.Try | ast.FunctionDef):
            self._forget(stored([node]))
        return self.generic_visit(node)  # type: ignore[return-value]

    def _if(self, node: ast.If) -> ast.stmt | list[ast.stmt] | None:
        truth = self._truth(node.test)
        if truth is None:
            node.test = self._test(node.test)
            truth = bool(node.test.value) if isinstance(node.test, ast.Constant) else None
        if truth is not None:
            return list(node.body if truth else node.orelse)
        before = dict(self.known)
        node.body = self.block(node.body)
        self.known = dict(before)
        node.orelse = self.block(node.orelse)
        self.known = before
        self._forget(stored([*node.body, *node.orelse]))
        if not node.body and not node.orelse:
            return None
        if not node.body:
            node.test, node.body, node.orelse = self.visit(negated(node.test)), node.orelse, []
        if node.orelse and isinstance(node.body[-1], ast.Return | ast.Raise):
            rest, node.orelse = node.orelse, []
            return _Folded([node, *rest])
        return node

    def _for(self, node: ast.For) -> ast.stmt | list[ast.stmt] | None:
        facts = self.scope.facts
        if facts is not None and facts.rounds.get(mark_of(node)) == {0}:
            return None
        node.iter = self.visit(node.iter)
        if facts is not None and (rounds := self._rounds(node)) is not None:
            return rounds
        self._forget(stored([node]))
        before = dict(self.known)
        node.body = self.block(node.body)
        self.known = before
        return node if node.body else None

    def _rounds(self, node: ast.For) -> list[ast.stmt] | None:
        """The rounds of a short loop over constants, one after the other."""
        items = self._items(node.iter)
        if items is None or len(items) > _MOST_ROUNDS or node.orelse:
            return None
        if any(isinstance(part, ast.Break | ast.Continue | ast.For) for inner in node.body for part in walk(inner)):
            return None
        statements: list[ast.stmt] = []
        for item in items:
            statements.append(ast.Assign([copy.deepcopy(node.target)], item, lineno=0))
            statements += [_unmarked(copy.deepcopy(inner)) for inner in node.body]
        return statements

    def _items(self, node: ast.expr) -> list[ast.expr] | None:
        if isinstance(node, ast.Tuple | ast.List):
            return None if any(isinstance(item, ast.Starred) for item in node.elts) else list(node.elts)
        if isinstance(node, ast.Call) and free(node) <= {"zip", "enumerate", "range", "reversed"} - self.locals:
            found = self._value(ast.Call(ast.Name("list", ast.Load()), [node], []))
            return [literal(item) for item in found[0]] if found and is_plain(found[0]) else None
        return None

    def _assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt] | None:
        target = node.targets[0]
        split = self._split(node)
        if split is not None:
            return split
        node.value = self.visit(node.value)
        if self._split(node) is not None:
            return self._split(node)
        node.targets = [self.visit(target) for target in node.targets]
        self._forget(stored(node.targets))
        if isinstance(target, ast.Name) and len(node.targets) == 1:
            if self._is_short(node.value):
                self.known[target.id] = node.value
            elif self._is_something(node.value):
                self.something.add(target.id)
        return node

    def _split(self, node: ast.Assign) -> list[ast.stmt] | None:
        """``a, b = c, d`` of a constructor as two statements, unless one reads what the other changes."""
        target, value = node.targets[0], node.value
        if self.scope.facts is None or len(node.targets) > 1 or not isinstance(target, ast.Tuple):
            return None
        if not isinstance(value, ast.Tuple | ast.List) or len(value.elts) != len(target.elts):
            return None
        if any(isinstance(item, ast.Starred) for item in (*target.elts, *value.elts)):
            return None
        for place, item in enumerate(target.elts):
            changed = {expression(item)}
            for later in value.elts[place + 1 :]:
                if changed & {expression(part) for part in walk(later) if isinstance(part, ast.Name | ast.Attribute)}:
                    return None
        pairs = zip(target.elts, value.elts, strict=True)
        statements: list[ast.stmt] = [ast.Assign([item], part, lineno=0) for item, part in pairs]
        statements[0].comments = getattr(node, "comments", [])  # type: ignore[attr-defined]
        return statements

    def _annotated(self, node: ast.AnnAssign) -> ast.stmt | list[ast.stmt] | None:
        if node.value is None:
            return node if self.scope.facts is None else None
        if self.scope.facts is not None:
            assigned = ast.Assign([node.target], node.value, lineno=0)
            assigned.comments = getattr(node, "comments", [])  # type: ignore[attr-defined]
            return [assigned]
        node.value = self.visit(node.value)
        self._forget(stored([node.target]))
        return node

    def _augmented(self, node: ast.AugAssign) -> ast.stmt | None:
        node.value = self.visit(node.value)
        self._forget(stored([node.target]))
        empty = isinstance(node.value, ast.List) and not node.value.elts and isinstance(node.op, ast.Add)
        return None if empty else node

    def _forget(self, names: set[str]) -> None:
        """Nothing is known any more of what is assigned to, and of what is made of it."""
        self.something -= names
        self.known = {
            name: value for name, value in self.known.items() if name not in names and not names & set(loaded([value]))
        }

    def _is_short(self, node: ast.expr) -> bool:
        """Whether a local name adds nothing to its value."""
        if isinstance(node, ast.Dict):
            return is_literal(node) and self.scope.facts is not None
        return (is_literal(node) and not isinstance(node, ast.List)) or self._is_global(node)

    def _is_global(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute):
            return (
                isinstance(node.value, ast.Name)
                and node.value.id in ("nn", "F", "torch")
                and self._is_global(node.value)
            )
        return isinstance(node, ast.Name) and node.id not in self.locals and node.id in self.scope.names

    def _is_check(self, node: ast.expr) -> bool:
        """Whether a call can do nothing but raise: its arguments are plain, and its result is not looked at."""
        if self.scope.facts is None or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return False
        return node.func.id in self.scope.plain

    # -- expressions -------------------------------------------------------------------------------------------------

    def visit(self, node: ast.AST) -> Any:
        if not isinstance(node, ast.expr):
            return super().visit(node)
        folded = super().visit(node)
        return self._computed(folded) if isinstance(folded, ast.expr) else folded

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.known and node.id not in self.inner:
            return copy.deepcopy(self.known[node.id])
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        names = [part.arg for part in walk(node.args) if isinstance(part, ast.arg)]
        return self._shaded(node, names)

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        return self._shaded(node, stored([node]))

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp  # type: ignore[assignment]

    def _shaded(self, node: ast.expr, names: Iterable[str]) -> ast.expr:
        before, self.inner = self.inner, [*self.inner, *names]
        folded = self.generic_visit(node)
        self.inner = before
        return folded  # type: ignore[return-value]

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        truth = self._truth(node.test)
        if truth is None:
            node.test = self._test(node.test)
            truth = bool(node.test.value) if isinstance(node.test, ast.Constant) else None
        if truth is not None:
            return self.visit(node.body if truth else node.orelse)
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        return self._joined(node, self.visit)

    def _joined(self, node: ast.BoolOp, visit: Any) -> ast.expr:
        stops = isinstance(node.op, ast.Or)
        values: list[ast.expr] = []
        for place, value in enumerate(node.values):
            seen = self.scope.facts.constant(value) if self.scope.facts else ()
            value = ast.Constant(seen[0]) if seen and isinstance(seen[0], bool) else visit(value)
            if not isinstance(value, ast.Constant):
                values.append(value)
            elif bool(value.value) == stops:
                values.append(value)
                break
            elif place == len(node.values) - 1 and not (values and visit == self._test):
                values.append(value)
        pure = all(is_pure(value, self.scope.names, self.scope.plain) for value in values)
        if visit == self._test and isinstance(values[-1], ast.Constant) and bool(values[-1].value) == stops and pure:
            return ast.Constant(stops)
        return values[0] if len(values) == 1 else ast.BoolOp(node.op, values)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        none = (
            len(node.ops) == 1 and isinstance(node.comparators[0], ast.Constant) and node.comparators[0].value is None
        )
        if none and isinstance(node.ops[0], ast.Is | ast.IsNot) and self._is_something(node.left):
            return ast.Constant(isinstance(node.ops[0], ast.IsNot))
        return node

    def _is_something(self, node: ast.expr) -> bool:
        """Whether an expression is surely not None: a result of arithmetic, or of a method of tensors."""
        if isinstance(node, ast.Name):
            return node.id in self.something
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            return hasattr(torch.Tensor, node.func.attr) and f".{node.func.attr}" not in self.scope.plain
        return isinstance(node, ast.BinOp | ast.Tuple | ast.List)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if not isinstance(node.op, ast.Not):
            return self.generic_visit(node)  # type: ignore[return-value]
        operand = self._test(node.operand)
        return ast.Constant(not operand.value) if isinstance(operand, ast.Constant) else negated(operand)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        node.args = list(_spread(node.args))
        words: list[ast.keyword] = []
        for word in node.keywords:
            inside = word.value if word.arg is None and isinstance(word.value, ast.Dict) else None
            keys = [key.value for key in inside.keys if isinstance(key, ast.Constant)] if inside else []
            if inside and len(keys) == len(inside.keys) and all(isinstance(key, str) for key in keys):
                words += [ast.keyword(str(key), value) for key, value in zip(keys, inside.values, strict=True)]
            else:
                words.append(word)
        node.keywords = words
        return _usual(node) if isinstance(node.func, ast.Attribute) else _round(node)

    def visit_List(self, node: ast.List) -> ast.expr:
        self.generic_visit(node)
        node.elts = list(_spread(node.elts))
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        self.generic_visit(node)
        node.elts = list(_spread(node.elts))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Mult) and isinstance(node.right, ast.Constant) and node.right.value == 1.0:
            return node.left if isinstance(node.right.value, float) and self.scope.facts is None else node
        lists = isinstance(node.left, ast.List) and isinstance(node.right, ast.List) and isinstance(node.op, ast.Add)
        return ast.List([*node.left.elts, *node.right.elts], ast.Load()) if lists else node  # type: ignore[attr-defined]

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        self.generic_visit(node)
        index = node.slice.value if isinstance(node.slice, ast.Constant) else None
        inside = isinstance(node.value, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Load)
        if inside and type(index) is int and -len(node.value.elts) <= index < len(node.value.elts):  # type: ignore[attr-defined]
            return node.value.elts[index]  # type: ignore[attr-defined]
        return node

    def _test(self, node: ast.expr) -> ast.expr:
        """An expression of which only the truth counts."""
        if isinstance(node, ast.BoolOp):
            return self._computed(self._joined(node, self._test))
        return self.visit(node)

    def _truth(self, test: ast.expr) -> bool | None:
        return self.scope.facts.truth(test) if self.scope.facts is not None else None

    def _computed(self, node: ast.expr) -> ast.expr:
        """The value of an expression that is the same for every module, where it is as short as the expression."""
        if isinstance(node, ast.Constant | ast.Name | ast.Starred | ast.Lambda | ast.GeneratorExp) or is_literal(node):
            return node
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load) or self._is_global(node):
            return node
        seen = self.scope.facts.constant(node) if self.scope.facts is not None else ()
        found = seen or self._value(node)
        written = self._written(found[0]) if found else None
        if written is None or not is_plain(found[0]):
            return written or node
        short = isinstance(written, ast.Tuple) or len(expression(written)) <= max(len(expression(node)), 8)
        return written if short else node

    def _written(self, value: Any) -> ast.expr | None:
        if is_plain(value):
            return literal(value)
        name = getattr(value, "__name__", "")
        for alias, module in (("nn", nn), ("F", F)):
            if name and getattr(module, name, None) is value and self.scope.names.get(alias) is module:
                return ast.Attribute(ast.Name(alias, ast.Load()), name, ast.Load())
        return ast.Name(name, ast.Load()) if name and self.scope.names.get(name) is value else None

    def _value(self, node: ast.expr) -> tuple[Any, ...]:
        """The value as a 1-tuple, where it can be had without running anything but plain functions."""
        outside = free(node)
        if (outside & self.locals) - ({"self"} if self.scope.modules else set()) or outside & set(self.inner):
            return ()
        if not all(name in self.scope.names or name == "self" or hasattr(builtins, name) for name in outside):
            return ()
        if not self._can_run(node):
            return ()
        code = compile(ast.fix_missing_locations(ast.Expression(copy.deepcopy(node))), "constant", "eval")
        values = []
        for module in self.scope.modules if "self" in outside else [None]:
            try:
                values.append(eval(code, dict(self.scope.names), {"self": module}))
            except Exception:  # the file would raise the same when it runs
                return ()
        same = all(type(value) is type(values[0]) for value in values) and all(
            value is values[0] or (is_plain(value) and value == values[0]) for value in values
        )
        return (values[0],) if same else ()

    def _can_run(self, node: ast.expr) -> bool:
        for part in walk(node):
            if isinstance(part, ast.Attribute) and _rooted(part) and part.attr in self.scope.changing:
                return False
            if isinstance(part, ast.Call):
                func = part.func
                if isinstance(func, ast.Name):
                    pure = func.id in _PURE or func.id in self.scope.plain
                    pure = pure or getattr(self.scope.names.get(func.id), "__module__", "") in _PURE_MODULES
                else:
                    pure = isinstance(func, ast.Attribute) and is_literal(func.value)
                if not pure:
                    return False
            if isinstance(part, ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr):
                return False
        return True


class _Folded(list[ast.stmt]):
    """Statements that stand in the place of one."""


def _rooted(node: ast.expr) -> bool:
    """Whether an attribute is reached from ``self``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return is_self(node)


def negated(node: ast.expr) -> ast.expr:
    """``not node``, as it is said."""
    opposite: dict[type[ast.cmpop], ast.cmpop] = {
        ast.Is: ast.IsNot(),
        ast.IsNot: ast.Is(),
        ast.Eq: ast.NotEq(),
        ast.NotEq: ast.Eq(),
        ast.In: ast.NotIn(),
        ast.NotIn: ast.In(),
    }
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in opposite:
        return ast.Compare(node.left, [opposite[type(node.ops[0])]], node.comparators)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    return ast.UnaryOp(ast.Not(), node)


def _unmarked(node: ast.stmt) -> ast.stmt:
    """A copy of a statement that nothing is known of yet."""
    for part in walk(node):
        if hasattr(part, "mark"):
            del part.mark
    return node


def _spread(items: Iterable[ast.expr]) -> Iterator[ast.expr]:
    """Items, those of lists with a star among them."""
    for item in items:
        if isinstance(item, ast.Starred) and isinstance(item.value, ast.List | ast.Tuple):
            yield from item.value.elts
        else:
            yield item


def _usual(call: ast.Call) -> ast.Call:
    """A layer of torch with its arguments as they are usually written: one number for all axes, no ``bias=True``."""
    name = getattr(call.func, "attr", "")
    if not name.startswith(("Conv", "Linear")):
        return call
    if name == "Linear" and len(call.args) == 3:
        call.keywords.append(ast.keyword("bias", call.args.pop()))
    if name.startswith("Conv"):
        places = {word.arg: word.value for word in call.keywords}
        if len(call.args) == 2 and "kernel_size" in places:
            call.args.append(places["kernel_size"])
            call.keywords = [word for word in call.keywords if word.arg != "kernel_size"]
        call.args[2:3] = [_scalar(size) for size in call.args[2:3]]
        even = ("stride", "padding", "dilation")
        call.keywords = [ast.keyword(w.arg, _scalar(w.value) if w.arg in even else w.value) for w in call.keywords]
    call.keywords = [word for word in call.keywords if word.arg != "bias" or not _is_true(word.value)]
    return call


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def _round(call: ast.Call) -> ast.expr:
    """``round(dim * 2.0)`` as ``dim * 2``: widths are whole numbers."""
    product = (
        call.args[0] if isinstance(call.func, ast.Name) and call.func.id == "round" and len(call.args) == 1 else None
    )
    if not isinstance(product, ast.BinOp) or not isinstance(product.op, ast.Mult):
        return call
    width, ratio = product.left, product.right.value if isinstance(product.right, ast.Constant) else None
    if not isinstance(width, ast.Name) or not isinstance(ratio, int | float) or ratio != int(ratio):
        return call
    return width if ratio == 1 else ast.BinOp(width, ast.Mult(), ast.Constant(int(ratio)))


def _scalar(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Tuple) and len({expression(item) for item in node.elts}) == 1 and is_literal(node):
        return node.elts[0]
    return node
