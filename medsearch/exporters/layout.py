"""Syntax trees as text in the layout of ``ruff format``, with comments; ``ast.unparse`` has another, without them."""

from __future__ import annotations

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator, Sequence

from medsearch.exporters.walk import walk

WIDTH = 120

_BINARY: dict[type[ast.operator], tuple[str, int]] = {
    ast.BitOr: ("|", 7),
    ast.BitXor: ("^", 8),
    ast.BitAnd: ("&", 9),
    ast.LShift: ("<<", 10),
    ast.RShift: (">>", 10),
    ast.Add: ("+", 11),
    ast.Sub: ("-", 11),
    ast.Mult: ("*", 12),
    ast.Div: ("/", 12),
    ast.FloorDiv: ("//", 12),
    ast.Mod: ("%", 12),
    ast.MatMult: ("@", 12),
    ast.Pow: ("**", 14),
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
_UNARY: dict[type[ast.unaryop], tuple[str, int]] = {
    ast.Not: ("not ", 5),
    ast.USub: ("-", 13),
    ast.UAdd: ("+", 13),
    ast.Invert: ("~", 13),
}
_IF, _OR, _AND, _COMPARISON, _ATOM = 2, 3, 4, 6, 17
_BLOCKS = (ast.ClassDef, ast.FunctionDef)
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def parse(text: str) -> ast.Module:
    """The tree of a file; a comment is kept with the statement that it stands above, or beside."""
    tree = ast.parse(text)
    statements = [node for node in walk(tree) if isinstance(node, ast.stmt)]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line = token.start[0]
        beside = [node for node in statements if node.lineno <= line <= (node.end_lineno or node.lineno)]
        own_line = not token.line[: token.start[1]].strip()
        below = [node for node in statements if _first_line(node) > line]
        if own_line and below:
            owner = min(below, key=lambda node: (_first_line(node), node.col_offset))
        elif beside:
            owner = max(beside, key=lambda node: node.lineno)
        else:
            continue
        owner.comments = [*comments(owner), token.string]  # type: ignore[attr-defined]
    return tree


def comments(node: ast.stmt) -> list[str]:
    """The comments of a statement, one a line."""
    return getattr(node, "comments", [])


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def module_lines(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The lines of statements at the top of a file: two empty lines around classes and functions."""
    for before, node in zip([None, *body], body, strict=False):
        if before is not None:
            apart = isinstance(node, _BLOCKS) or isinstance(before, _BLOCKS)
            yield from [""] * (2 if apart else 0)
        yield from _statement(node, 0)


def expression(node: ast.expr) -> str:
    """An expression on one line."""
    return _text(node)


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def _statement(node: ast.stmt, indent: int) -> Iterator[str]:
    pad = " " * indent
    yield from (pad + comment for comment in comments(node))
    if is_text(node):
        yield from _docstring(node, pad)
    elif isinstance(node, ast.ClassDef):
        yield from _decorators(node, pad)
        bases = [*map(expression, node.bases), *(f"{word.arg}={expression(word.value)}" for word in node.keywords)]
        yield f"{pad}class {node.name}{'(' + ', '.join(bases) + ')' if bases else ''}:"
        yield from _class_body(node.body, indent + 4)
    elif isinstance(node, ast.FunctionDef):
        yield from _decorators(node, pad)
        yield from _signature(node, indent)
        yield from _body(node.body, indent + 4)
    elif isinstance(node, ast.If):
        yield from _if(node, "if", indent)
    elif isinstance(node, ast.For):
        yield from _wrapped(f"for {_bare(node.target)} in ", node.iter, ":", indent)
        yield from _body(node.body, indent + 4)
        if node.orelse:
            yield f"{pad}else:"
            yield from _body(node.orelse, indent + 4)
    elif isinstance(node, ast.With):
        items = [
            f"{expression(i.context_expr)}{f' as {expression(i.optional_vars)}' if i.optional_vars else ''}"
            for i in node.items
        ]
        yield f"{pad}with {', '.join(items)}:"
        yield from _body(node.body, indent + 4)
    else:
        yield from _simple(node, indent)


def _simple(node: ast.stmt, indent: int) -> Iterator[str]:
    if isinstance(node, ast.Assign):
        yield from _wrapped("".join(f"{_bare(target)} = " for target in node.targets), node.value, "", indent)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield from _wrapped(f"{expression(node.target)}: {_annotation(node.annotation)} = ", node.value, "", indent)
    elif isinstance(node, ast.AnnAssign):
        yield f"{' ' * indent}{expression(node.target)}: {_annotation(node.annotation)}"
    elif isinstance(node, ast.AugAssign):
        yield from _wrapped(f"{expression(node.target)} {_BINARY[type(node.op)][0]}= ", node.value, "", indent)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield from _wrapped("return ", node.value, "", indent)
    elif isinstance(node, ast.Expr):
        yield from _wrapped("", node.value, "", indent)
    elif isinstance(node, ast.Raise) and node.exc is not None:
        cause = f" from {expression(node.cause)}" if node.cause else ""
        yield from _wrapped("raise ", node.exc, cause, indent)
    else:
        yield from (" " * indent + line for line in ast.unparse(node).splitlines())


def _docstring(node: ast.stmt, pad: str) -> Iterator[str]:
    assert isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    text = inspect.cleandoc(str(node.value.value)).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = f'"""{text}"""'.splitlines()
    if len(pad + lines[-1]) > WIDTH:
        lines[-1:] = [lines[-1].removesuffix('"""'), '"""']
    yield pad + lines[0]
    yield from (pad + line if line.strip() else "" for line in lines[1:])


def _decorators(node: ast.ClassDef | ast.FunctionDef, pad: str) -> Iterator[str]:
    yield from (f"{pad}@{expression(decorator)}" for decorator in node.decorator_list)


def _class_body(body: Sequence[ast.stmt], indent: int) -> Iterator[str]:
    for before, node in zip([None, *body], body, strict=False):
        if before is not None and (is_text(before) or isinstance(node, _BLOCKS) or isinstance(before, _BLOCKS)):
            yield ""
        yield from _statement(node, indent)


def _body(body: Sequence[ast.stmt], indent: int) -> Iterator[str]:
    for before, node in zip([None, *body], body, strict=False):
        if before is not None and not is_text(before) and (isinstance(node, _BLOCKS) or isinstance(before, _BLOCKS)):
            yield ""
        yield from _statement(node, indent)


def _if(node: ast.If, word: str, indent: int) -> Iterator[str]:
    yield from _wrapped(f"{word} ", node.test, ":", indent)
    yield from _body(node.body, indent + 4)
    if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If) and not comments(node.orelse[0]):
        yield from _if(node.orelse[0], "elif", indent)
    elif node.orelse:
        yield f"{' ' * indent}else:"
        yield from _body(node.orelse, indent + 4)


def _signature(node: ast.FunctionDef, indent: int) -> Iterator[str]:
    pad, items = " " * indent, list(_parameters(node.args))
    head, end = f"{pad}def {node.name}(", f"){f' -> {_annotation(node.returns)}' if node.returns else ''}:"
    whole, inside = head + ", ".join(items) + end, f"{pad}    {', '.join(items)}"
    if len(whole) <= WIDTH:
        yield whole
        return
    yield head
    yield from [inside] if len(inside) <= WIDTH else [f"{pad}    {item}," for item in items]
    yield pad + end


def _parameters(given: ast.arguments) -> Iterator[str]:
    plain = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(plain) - len(given.defaults)) + list(given.defaults)
    for place, (arg, default) in enumerate(zip(plain, defaults, strict=True), start=1):
        yield _parameter(arg, default)
        if place == len(given.posonlyargs):
            yield "/"
    if given.vararg or given.kwonlyargs:
        yield "*" + (_parameter(given.vararg, None) if given.vararg else "")
    yield from (_parameter(arg, default) for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True))
    if given.kwarg:
        yield "**" + _parameter(given.kwarg, None)


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    typed = f": {_annotation(arg.annotation)}" if arg.annotation else ""
    if default is None:
        return arg.arg + typed
    return f"{arg.arg}{typed}{' = ' if typed else '='}{expression(default)}"


def _annotation(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else expression(node)


def _wrapped(head: str, node: ast.expr, tail: str, indent: int) -> Iterator[str]:
    """``head``, an expression and ``tail``, on one line if that fits, else broken at the outermost brackets."""
    pad = " " * indent
    bare = _bare(node) if head.endswith(("= ", "return ")) or not (head or tail) else expression(node)
    if len(whole := pad + head + bare + tail) <= WIDTH:
        yield whole
        return
    if (links := list(_links(node))) and head.endswith(("= ", "return ")):
        yield from (pad + head + "(", *(f"{pad}    {link}" for link in links), pad + ")" + tail)
        return
    opening, items, closing, joined = _broken(node)
    if not opening and (head or tail != ","):
        opening, closing = "(", ")"
    if not opening:
        yield from _pieces(node, indent, tail)
        return
    yield pad + head + opening
    inside = " " * (indent + 4)
    if joined and len(line := inside + ", ".join(_item(item) for item in items)) <= WIDTH:
        yield line
    elif joined is None:
        yield from _pieces(node, indent + 4, "")
    elif len(items) == 1 and isinstance(items[0], ast.GeneratorExp | _Inside):
        yield from _pieces(items[0] if isinstance(items[0], ast.expr) else items[0].node, indent + 4, "")
    else:
        for item in items:
            yield from _entry(item, indent + 4)
    yield pad + closing + tail


def _broken(node: ast.expr) -> tuple[str, Sequence[ast.AST], str, bool | None]:
    """Opening, items and closing of what can be broken in brackets of its own, and if items may share a line."""
    if isinstance(node, ast.Call):
        return f"{_text(node.func, _ATOM)}(", [*node.args, *node.keywords], ")", True
    if isinstance(node, ast.List):
        return "[", node.elts, "]", False
    if isinstance(node, ast.Tuple):
        return "(", node.elts, ")", False
    if isinstance(node, _COMPREHENSIONS):
        whole = expression(node)
        return whole[0], [_Inside(node)], whole[-1], False
    if isinstance(node, ast.Dict):
        return "{", [_Pair(key, value) for key, value in zip(node.keys, node.values, strict=True)], "}", False
    return "", [], "", None


def _links(node: ast.expr) -> Iterator[str]:
    """The lines of a chain of method calls, if there are at least two behind its first part."""
    calls: list[tuple[str, ast.Call]] = []
    rest = node
    while isinstance(rest, ast.Call) and isinstance(rest.func, ast.Attribute):
        calls.append((f".{rest.func.attr}", rest))
        rest = rest.func.value
    if len(calls) < 3 or not isinstance(rest, ast.Name):
        return
    written = [f"{name}({', '.join(map(_item, (*call.args, *call.keywords)))})" for name, call in reversed(calls)]
    yield rest.id + written[0]
    yield from written[1:]


class _Pair(ast.AST):
    """One entry of a dict."""

    def __init__(self, key: ast.expr | None, value: ast.expr) -> None:
        super().__init__()
        self.key, self.value = key, value


class _Inside(ast.AST):
    """A comprehension without its brackets."""

    def __init__(self, node: _Comprehension) -> None:
        super().__init__()
        self.node = node


def _entry(item: ast.AST, indent: int) -> Iterator[str]:
    """One item of a broken bracket, with the comma after it."""
    if isinstance(item, ast.keyword) and item.arg:
        yield from _wrapped(f"{item.arg}=", item.value, ",", indent)
    elif isinstance(item, ast.Starred):
        yield from _wrapped("*", item.value, ",", indent)
    elif isinstance(item, _Pair) and item.key is not None:
        yield from _wrapped(f"{expression(item.key)}: ", item.value, ",", indent)
    elif isinstance(item, ast.expr):
        yield from _wrapped("", item, ",", indent)
    else:
        yield f"{' ' * indent}{_item(item)},"


def _item(item: ast.AST) -> str:
    if isinstance(item, ast.keyword):
        return f"{item.arg}={expression(item.value)}" if item.arg else f"**{_text(item.value, 7)}"
    if isinstance(item, _Pair):
        return f"{expression(item.key)}: {expression(item.value)}" if item.key else f"**{expression(item.value)}"
    assert isinstance(item, ast.expr)
    return expression(item)


def _pieces(node: ast.expr, indent: int, tail: str) -> Iterator[str]:
    """An expression that stands in brackets already: on one line if it fits, else broken before its operators."""
    pad = " " * indent
    inside = _comprehension(node) if isinstance(node, _COMPREHENSIONS) else expression(node)
    if len(whole := pad + inside + tail) <= WIDTH:
        yield whole
        return
    pieces = list(_operands(node))
    if len(pieces) == 1:
        yield whole
        return
    for place, (head, part) in enumerate(pieces):
        end = tail if place == len(pieces) - 1 else ""
        yield from _wrapped(head, part, end, indent)


def _operands(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, _COMPREHENSIONS):
        yield (f"{_text(node.key)}: ", node.value) if isinstance(node, ast.DictComp) else ("", node.elt)
        for each in node.generators:
            yield f"for {_bare(each.target)} in ", each.iter
            yield from (("if ", test) for test in each.ifs)
    elif isinstance(node, ast.BoolOp):
        word = "and " if isinstance(node.op, ast.And) else "or "
        yield from ((word if place else "", part) for place, part in enumerate(node.values))
    elif isinstance(node, ast.IfExp):
        yield from (("", node.body), ("if ", node.test), ("else ", node.orelse))
    elif isinstance(node, ast.BinOp):
        sign, level = _BINARY[type(node.op)]
        same = isinstance(node.left, ast.BinOp) and _BINARY[type(node.left.op)][1] == level
        yield from _operands(node.left) if same else [("", node.left)]
        yield f"{sign} ", node.right
    else:
        yield "", node


def _bare(node: ast.expr) -> str:
    """An expression where a tuple needs no brackets."""
    if not isinstance(node, ast.Tuple) or len(node.elts) < 2:
        return expression(node)
    if isinstance(node.ctx, ast.Load) and any(isinstance(item, ast.Starred) for item in node.elts):
        return expression(node)
    return ", ".join(map(expression, node.elts))


def _text(node: ast.expr, least: int = 0) -> str:
    """One line, in brackets where its operator binds less than ``least``."""
    text, level = _leveled(node)
    return f"({text})" if level < least else text


def _leveled(node: ast.expr) -> tuple[str, int]:
    """The text of an expression and how strongly its outermost operator binds."""
    match node:
        case ast.Constant():
            return _constant(node.value), _ATOM if not isinstance(node.value, int | float) or node.value >= 0 else 13
        case ast.Name():
            return node.id, _ATOM
        case ast.Attribute():
            number = isinstance(node.value, ast.Constant) and isinstance(node.value.value, int)
            return f"{f'({_text(node.value)})' if number else _text(node.value, _ATOM)}.{node.attr}", _ATOM
        case ast.Call():
            if len(node.args) == 1 and isinstance(node.args[0], ast.GeneratorExp) and not node.keywords:
                return f"{_text(node.func, _ATOM)}({_comprehension(node.args[0])})", _ATOM
            return f"{_text(node.func, _ATOM)}({', '.join(map(_item, (*node.args, *node.keywords)))})", _ATOM
        case ast.Subscript():
            return f"{_text(node.value, _ATOM)}[{_index(node.slice)}]", _ATOM
        case ast.Starred():
            return f"*{_text(node.value, 7)}", 0
        case ast.Tuple():
            return f"({', '.join(map(_text, node.elts))}{',' if len(node.elts) == 1 else ''})", _ATOM
        case ast.List():
            return f"[{', '.join(map(_text, node.elts))}]", _ATOM
        case ast.Set():
            return f"{{{', '.join(map(_text, node.elts))}}}", _ATOM
        case ast.Dict():
            pairs = (_item(_Pair(key, value)) for key, value in zip(node.keys, node.values, strict=True))
            return f"{{{', '.join(pairs)}}}", _ATOM
        case ast.ListComp():
            return f"[{_comprehension(node)}]", _ATOM
        case ast.DictComp():
            return f"{{{_comprehension(node)}}}", _ATOM
        case ast.SetComp() | ast.GeneratorExp():
            opening, closing = "{}" if isinstance(node, ast.SetComp) else "()"
            return f"{opening}{_comprehension(node)}{closing}", _ATOM
        case ast.BinOp() | ast.UnaryOp() | ast.BoolOp() | ast.Compare() | ast.IfExp():
            return _operation(node)
        case ast.JoinedStr():
            return _double_quoted(ast.unparse(node)), _ATOM
        case _:
            return ast.unparse(node), 0


def _operation(node: ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare | ast.IfExp) -> tuple[str, int]:
    match node:
        case ast.BinOp(op=ast.Pow()):
            simple = _is_simple(node.left) and _is_simple(node.right)
            return f"{_text(node.left, 15)}{'**' if simple else ' ** '}{_text(node.right, 13)}", 14
        case ast.BinOp():
            sign, level = _BINARY[type(node.op)]
            return f"{_text(node.left, level)} {sign} {_text(node.right, level + 1)}", level
        case ast.UnaryOp():
            sign, level = _UNARY[type(node.op)]
            return sign + _text(node.operand, _ATOM if isinstance(node.operand, ast.BinOp) else level), level
        case ast.BoolOp():
            word, level = ("and", _AND) if isinstance(node.op, ast.And) else ("or", _OR)
            return f" {word} ".join(_text(value, level + 1) for value in node.values), level
        case ast.Compare():
            text = _text(node.left, _COMPARISON + 1)
            for relation, value in zip(node.ops, node.comparators, strict=True):
                text += f" {_COMPARE[type(relation)]} {_text(value, _COMPARISON + 1)}"
            return text, _COMPARISON
        case ast.IfExp():
            return f"{_text(node.body, _OR)} if {_text(node.test, _OR)} else {_text(node.orelse, _IF)}", _IF


def _is_simple(node: ast.expr) -> bool:
    """Whether a power of it is written without spaces."""
    if isinstance(node, ast.UnaryOp):
        return not isinstance(node.op, ast.Not) and _is_simple(node.operand)
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and isinstance(node.value, int | float))


def _comprehension(node: _Comprehension) -> str:
    text = f"{_text(node.key)}: {_text(node.value)}" if isinstance(node, ast.DictComp) else _text(node.elt)
    for each in node.generators:
        text += f" for {_bare(each.target)} in {_text(each.iter, _OR)}"
        text += "".join(f" if {_text(test, _OR)}" for test in each.ifs)
    return text


def _index(node: ast.expr) -> str:
    if isinstance(node, ast.Tuple) and node.elts:
        return ", ".join(map(_index, node.elts)) + ("," if len(node.elts) == 1 else "")
    if not isinstance(node, ast.Slice):
        return _text(node)
    ends = [end for end in (node.lower, node.upper, node.step) if end is not None]
    space = "" if all(isinstance(end, ast.Constant | ast.Name) or _is_negative(end) for end in ends) else " "
    text = (_text(node.lower) + space if node.lower else "") + ":" + (space + _text(node.upper) if node.upper else "")
    return text + (space if node.upper else "") + f":{space}{_text(node.step)}" if node.step else text


def _is_negative(node: ast.expr) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant | ast.Name)


def _constant(value: object) -> str:
    if isinstance(value, float) and value == int(value) and 1e4 <= abs(value) < 1e9:
        return f"{value:_.1f}"
    return "..." if value is Ellipsis else _double_quoted(repr(value)) if isinstance(value, str) else repr(value)


def _double_quoted(text: str) -> str:
    """A literal in double quotes, where that needs no more escapes."""
    mark = text.index("'") if "'" in text else len(text)
    if '"' in text or text[:mark] not in ("", "f"):
        return text
    return text[:mark] + '"' + text[mark + 1 : -1].replace("\\'", "'") + '"'
