"""Docstrings of a written file: what a part does and which paper it is from, without the knobs that it has no more."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping

from medsearch.exporters.layout import WIDTH, is_text
from medsearch.exporters.names import uses
from medsearch.exporters.walk import walk

_COMMON = {"B", "C", "S"}
_PAPER = re.compile(
    r"((?:[\w-]*[A-Z][\w-]*)(?: (?:et al\.|and [A-Z]\w+|[A-Z]\w+|\d{4}))*)? ?\(([^()]*(?:arXiv|doi):[^\s,;()]+)[^()]*\)"
)
_AXES = re.compile(r"_([A-Z0-9]+)\b")


def condense(tree: ast.Module, docs: Mapping[str, str]) -> None:
    """Shorten all docstrings in place.

    Args:
        tree: definitions, each with its file of ``origin``.
        docs: the docstrings of these files; the source that one names goes to the first class that is left of it.
    """
    for node in walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            _shorten(node)
    for origin, doc in docs.items():
        own = [node for node in tree.body if getattr(node, "origin", None) == origin]
        parts: list[ast.ClassDef | ast.FunctionDef] = [node for node in own if isinstance(node, ast.ClassDef)]
        helpers = [node for node in own if isinstance(node, ast.FunctionDef) and _source(doc)]
        first = next(iter([*filter(_is_part, parts), *parts, *helpers]), None)
        more = [_filled(text, 4) for text in (_source(doc), _shapes(doc, own)) if text]
        if first is not None and more:
            _set(first, "\n\n".join([*filter(None, [ast.get_docstring(first)]), "\n".join(more)]))


def _is_part(node: ast.ClassDef | ast.FunctionDef) -> bool:
    return getattr(node, "part", False)


def _shorten(node: ast.ClassDef | ast.FunctionDef) -> None:
    """Keep the first paragraph, and the one that names a source."""
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    source = next((_source(text) for text in paragraphs[1:] if text.startswith("Source")), "")
    if paragraphs[0]:
        _set(node, re.sub(r":\w+:`~?([^`]*)`", r"``\1``", "\n\n".join(filter(None, [paragraphs[0], source]))))


def _set(node: ast.ClassDef | ast.FunctionDef, text: str) -> None:
    paragraphs = inspect.cleandoc(text).split("\n\n")
    room = WIDTH - (4 if isinstance(node, ast.ClassDef) else 8)
    if "\n" not in paragraphs[0] and len(paragraphs[0]) + len('""""""') > room:
        paragraphs[0] = textwrap.fill(paragraphs[0], room - len('""""""'))
    doc = ast.Expr(ast.Constant("\n\n".join(paragraphs)))
    node.body = [doc, *(node.body[1:] if node.body and is_text(node.body[0]) else node.body)]


def _filled(text: str, indent: int) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH - indent, break_long_words=False, break_on_hyphens=False)


def _source(doc: str) -> str:
    """The papers that the docstring of a file says its parts are from."""
    found = re.search(r"^Sources?\b.*?(?=What\s+differs|Shapes:|\n\n|\Z)", doc, re.DOTALL | re.MULTILINE)
    text = " ".join(found.group().split()) if found else ""
    papers = [f"{name}{', ' if name else ''}{paper}" for name, paper in _PAPER.findall(text)]
    return f"Source: {'; '.join(dict.fromkeys(papers))}." if papers else ""


def _shapes(doc: str, own: list[ast.stmt]) -> str:
    """The letters of axes in the names of tensors, but those that are the same everywhere."""
    found = re.search(r"\bShapes:\s+(.*?)\.\s*(\n\n|\Z)", doc, re.DOTALL)
    used = {letter for name in _names(own) for axes in _AXES.findall(name) for letter in axes}
    entries = re.split(r",\s+(?=[A-Z]\b)", " ".join(found.group(1).split())) if found else []
    kept = [entry for entry in entries if entry[:1] in used - _COMMON]
    return f"Axes: {', '.join(kept)}." if kept else ""


def _names(own: list[ast.stmt]) -> Iterator[str]:
    yield from uses(own).names | uses(own).attributes
    yield from (node.arg for statement in own for node in walk(statement) if isinstance(node, ast.arg))
