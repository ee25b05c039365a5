"""The source text of some classes and of all they stand on, gathered from their files into one.

What a definition uses is read from its syntax tree and followed through the imports of its file, as far as medsearch's
own @@  A file's definitions stay together and in order, and a file comes after those it
imports, so that whatever ran there runs here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from medsearch.core.errors import RefusedError

_OURS = "medsearch."
_REGISTRIES = "medsearch.blocks"
_OUTSIDE = {"torch", *sys.stdlib_module_names}
_DESCRIBES = {"macs", "weights", "reach", "scale", "group", "groups", "mirrored", "keys_per_query", "feature_info"}
_WIDTH = 116
RULE = "# " + "-" * _WIDTH


@dataclass(frozen=True, kw_only=True)
class Import:
    """``from module import name as alias``; with no name, ``import module as alias``."""

    module: str
    name: str | None
    alias: str


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Imports from torch and the standard library, and one text per file of origin, in an order that runs."""

    imports: frozenset[Import]
    sections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    module: str
    lines: list[str]
    doc: str
    definitions: dict[str, ast.stmt]
    imports: dict[str, Import]

    def text(self, definition: ast.stmt) -> str:
        """The lines of a definition and the comment right above it, less its registry entry and describing methods."""
        first = definition.lineno
        decorators = getattr(definition, "decorator_list", [])
        kept = [line for node in decorators if not self.is_entry(node) for line in self._span(node)]
        above = min((node.lineno for node in decorators), default=first) - 1
        start = above
        while start and self.lines[start - 1].startswith("#"):
            start -= 1
        skipped = {line for gone in self._left_out(definition) for line in self._lines_of(gone, definition)}
        body = [self.lines[at - 1] for at in range(first, (definition.end_lineno or first) + 1) if at not in skipped]
        return "\n".join([*self.lines[start:above], *kept, *body])

    def is_entry(self, node: ast.AST) -> bool:
        """Whether a decorator is of the form ``@MIXERS.add("name")``."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        registry = node.func.value
        origin = self.imports.get(registry.id) if isinstance(registry, ast.Name) else None
        return origin is not None and origin.module == _REGISTRIES and node.func.attr == "add"

    def uses(self, definition: ast.stmt) -> set[str]:
        """All names in what is kept of a definition, local ones included."""
        left_out = self._left_out(definition)
        parts = (node for node in ast.iter_child_nodes(definition) if not self.is_entry(node) and node not in left_out)
        return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}

    def _left_out(self, definition: ast.stmt) -> list[ast.stmt]:
        """The methods by which a module describes itself, and the private ones that serve no other."""
        if not isinstance(definition, ast.ClassDef):
            return []
        if not issubclass(getattr(importlib.import_module(self.module), definition.name), nn.Module):
            return []
        methods = [node for node in definition.body if isinstance(node, ast.FunctionDef)]
        found: list[ast.stmt] = [node for node in methods if node.name in _DESCRIBES]
        for method in found:  # grows meanwhile
            named = _attributes(method)
            for other in methods:
                if other not in found and other.name in named and other.name.startswith("_"):
                    everywhere = sum(_attributes(node)[other.name] for node in set(self.definitions.values()))
                    if everywhere == sum(_attributes(node)[other.name] for node in found):
                        found.append(other)
        return found

    def _lines_of(self, gone: ast.stmt, definition: ast.stmt) -> range:
        """The lines of a statement of a class and what stands between it and the one before."""
        body: list[ast.stmt] = getattr(definition, "body", [])
        place = body.index(gone)
        start = (body[place - 1].end_lineno if place else gone.lineno - 1) or 0
        return range(start + 1, (gone.end_lineno or start) + 1)

    def _span(self, node: ast.expr) -> list[str]:
        return self.lines[node.lineno - 1 : node.end_lineno]


def gather(targets: Collection[type], *, reserved: Iterable[str] = ()) -> Sources:
    """Everything that ``targets`` need to be defined, outside of torch and the standard library.

    Where two files give different things the same name, or one of the ``reserved`` names, the later is renamed after
    its file: ``_gather`` of ``topk.py`` becomes ``_gather_of_topk``.  Targets keep their names.
    """
    files: dict[str, _File] = {}
    needed: dict[str, set[str]] = {}
    imports: set[Import] = set()
    todo = [(target.__module__, target.__name__) for target in targets]
    while todo:
        module, name = todo.pop()
        file = files[module] if module in files else files.setdefault(module, _read(module))
        origin = file.imports.get(name)
        if name in file.definitions and name not in needed.setdefault(module, set()):
            needed[module].add(name)
            known = {*file.definitions, *file.imports}
            todo += [(module, used) for used in sorted(file.uses(file.definitions[name]) & known)]
        elif origin is not None and (origin.module + ".").startswith(_OURS):
            assert origin.name is not None, f"{module}: import names from {origin.module}, not the module"
            todo.append((origin.module, origin.name))
        elif origin is not None:
            imports.add(_outside(origin, module))
    aliases = {found.alias for found in imports}
    assert len(aliases) == len(imports), f"one name for two imports: {sorted(map(str, imports))}"
    order = list(_in_order(files, [target.__module__ for target in targets], set()))
    taken = {name: "" for name in (*reserved, *aliases)}
    sections = [_section(files[module], needed[module], taken) for module in order if needed.get(module)]
    assert all(taken[target.__name__] == target.__module__ for target in targets), "two parts have one class name"
    return Sources(imports=frozenset(imports), sections=tuple(filter(None, sections)))


def _attributes(node: ast.AST) -> Counter[str]:
    """How often each name stands behind a dot."""
    return Counter(inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute))


def _outside(found: Import, module: str) -> Import:
    if found.module.partition(".")[0] not in _OUTSIDE:
        problem = f"imports {found.module}, so a file that needs torch alone cannot be made of it."
        raise RefusedError(module, problem, "A part may import torch, the standard library and medsearch.blocks.")
    return found


def import_lines(imports: Iterable[Import]) -> list[str]:
    """The import statements, sorted and merged: standard library, an empty line, torch."""
    groups: tuple[list[str], list[str]] = ([], [])
    whole = {(found.module, found.alias) for found in imports if found.name is None}
    for module, alias in sorted(whole):
        groups[_is_torch(module)].append(f"import {module}" if module == alias else f"import {module} as {alias}")
    for module in sorted({found.module for found in imports if found.name is not None}):
        names = sorted({_named(found) for found in imports if found.module == module and found.name is not None})
        groups[_is_torch(module)].append(f"from {module} import {', '.join(names)}")
    return [*groups[0], "", *groups[1]] if all(groups) else groups[0] + groups[1]


def _is_torch(module: str) -> bool:
    return module.partition(".")[0] == "torch"


def _named(found: Import) -> str:
    return f"{found.name}" if found.name == found.alias else f"{found.name} as {found.alias}"


def _read(module: str) -> _File:
    text = inspect.getsource(importlib.import_module(module))
    tree = ast.parse(text)
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, Import] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                name = alias.asname or alias.name
                assert name.isidentifier(), f"{module}: give {name} a name of its own: import {name} as ..."
                imports[name] = Import(module=alias.name, name=None, alias=name)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.module and statement.level == 0, f"{module}: write the import in full"
            for alias in statement.names:
                bound = alias.asname or alias.name
                imports[bound] = Import(module=statement.module, name=alias.name, alias=bound)
        else:
            definitions |= dict.fromkeys(_bound(statement), statement)
    doc = ast.get_docstring(tree) or ""
    return _File(module=module, lines=text.splitlines(), doc=doc, definitions=definitions, imports=imports)


def _bound(statement: ast.stmt) -> list[str]:
    """The names that a definition at the top of a file gives a meaning."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", statement)]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _in_order(files: dict[str, _File], modules: Iterable[str], seen: set[str]) -> Iterator[str]:
    """Each file after those it imports."""
    for module in modules:
        if module in files and module not in seen:
            seen.add(module)
            yield from _in_order(files, sorted(found.module for found in files[module].imports.values()), seen)
            yield module


def _section(file: _File, names: set[str], taken: dict[str, str]) -> str:
    """The file's docstring as a comment and its needed definitions; enters what it defines in ``taken``."""
    new_names: dict[str, str] = {}
    for name in sorted(names):
        value = _constant(file.definitions[name])
        if value and taken.get(name) == value:
            names = names - {name}
            continue
        new = f"{name}_of_{file.module.rpartition('.')[2]}" if name in taken else name
        assert new not in taken, f"{file.module}.{name}: the name {new} is taken"
        taken[new] = value or file.module
        if new != name:
            new_names[name] = new
    statements = {id(definition): definition for name, definition in file.definitions.items() if name in names}
    return _joined(_renamed(file, new_names), list(statements.values())) if statements else ""


def _joined(file: _File, statements: list[ast.stmt]) -> str:
    text, gap = _comment(file.doc), "\n\n"
    for statement in statements:
        constant = not isinstance(statement, ast.ClassDef | ast.FunctionDef)
        text += (gap if constant else "\n\n\n") + file.text(statement)
        gap = "\n" if constant else "\n\n\n"
    return text


def _constant(statement: ast.stmt) -> str:
    """The value of a plain constant as text, else nothing."""
    try:
        return repr(ast.literal_eval(getattr(statement, "value", statement)))
    except ValueError:
        return ""


def _comment(doc: str) -> str:
    """A docstring as comment lines; a paragraph that has no room for the sign in front of it is filled anew."""
    lines = [RULE]
    for paragraph in doc.split("\n\n"):
        given = paragraph.splitlines()
        fits = max(map(len, given), default=0) <= _WIDTH
        lines += [*(f"# {line}" for line in (given if fits else textwrap.wrap(paragraph, _WIDTH))), "#"]
    return "\n".join([*lines[:-1], RULE])


def _renamed(file: _File, new_names: dict[str, str]) -> _File:
    """The file with some of its top-level names replaced throughout."""
    if not new_names:
        return file
    lines = [line.encode() for line in file.lines]
    names = []
    for statement in file.definitions.values():
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name in new_names:
            start = re.match(rb"(class|def) ", lines[statement.lineno - 1])
            assert start is not None
            names.append((statement.lineno, start.end(), statement.name))
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in new_names:
                names.append((node.lineno, node.col_offset, node.id))
            assert not (isinstance(node, ast.arg) and node.arg in new_names), f"{file.module}: {node.arg} is two things"
    for line, column, name in sorted(set(names), reverse=True):
        text = lines[line - 1]
        end = column + len(name)
        assert text[column:end] == name.encode(), f"{file.module} (line {line}): {name} cannot be renamed"
        lines[line - 1] = text[:column] + new_names[name].encode() + text[end:]
    return replace(file, lines=[line.decode() for line in lines])
