"""The source text of some classes and of all they stand on, gathered from their files into one.

What a definition uses is read from its syntax tree and followed through the imports of its file, as far as medsearch's
own files and those of plugins go.  A file's definitions stay together and in order, and a file comes after those it
imports, so that whatever ran there runs here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from medsearch.core.errors import RefusedError

_OURS = "medsearch."
_REGISTRIES = "medsearch.blocks"
_OUTSIDE = {"torch", *sys.stdlib_module_names}


@dataclass(frozen=True, kw_only=True)
class Import:
    """``from module import name as alias``; with no name, ``import module as alias``."""

    module: str
    name: str | None
    alias: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one file gives: the text of its definitions, and the docstring of the file."""

    module: str
    doc: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Imports from torch and the standard library, and one section per file of origin, in an order that runs."""

    imports: frozenset[Import]
    sections: tuple[Section, ...]


@dataclass(frozen=True, kw_only=True)
class _File:
    module: str
    lines: list[str]
    doc: str
    definitions: dict[str, ast.stmt]
    imports: dict[str, Import]

    def text(self, definition: ast.stmt) -> str:
        """The lines of a definition and the comment right above it, less its registry entry."""
        first = definition.lineno
        decorators = getattr(definition, "decorator_list", [])
        kept = [line for node in decorators if not self.is_entry(node) for line in self._span(node)]
        above = min((node.lineno for node in decorators), default=first) - 1
        start = above
        while start and self.lines[start - 1].startswith("#"):
            start -= 1
        return "\n".join([*self.lines[start:above], *kept, *self.lines[first - 1 : definition.end_lineno]])

    def is_entry(self, node: ast.AST) -> bool:
        """Whether a decorator is of the form ``@MIXERS.add("name")``."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        registry = node.func.value
        origin = self.imports.get(registry.id) if isinstance(registry, ast.Name) else None
        return origin is not None and origin.module == _REGISTRIES and node.func.attr == "add"

    def uses(self, definition: ast.stmt) -> set[str]:
        """All names in a definition, local ones included."""
        parts = (node for node in ast.iter_child_nodes(definition) if not self.is_entry(node))
        return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}

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
    texts = {module: _text(files[module], needed[module], taken) for module in order if needed.get(module)}
    assert all(taken[target.__name__] == target.__module__ for target in targets), "two parts have one class name"
    sections = (Section(module=module, doc=files[module].doc, text=text) for module, text in texts.items() if text)
    return Sources(imports=frozenset(imports), sections=tuple(sections))


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


def _text(file: _File, names: set[str], taken: dict[str, str]) -> str:
    """The needed definitions of a file; enters what it defines in ``taken``."""
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
    renamed = _renamed(file, new_names)
    return "\n\n\n".join(renamed.text(statement) for statement in statements.values())


def _constant(statement: ast.stmt) -> str:
    """The value of a plain constant as text, else nothing."""
    try:
        return repr(ast.literal_eval(getattr(statement, "value", statement)))
    except ValueError:
        return ""


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
