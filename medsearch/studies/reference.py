"""The page docs/api.md, made of signatures, docstrings and options: ``python -m medsearch.studies.reference``."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from types import FunctionType
from typing import Any

from medsearch.core.options import options_of
from medsearch.measurement.budget import Budget
from medsearch.measurement.costs import COSTS, cost_named

MODULES = {
    "medsearch": "Everything is imported from `medsearch`, when it is first used.",
    "medsearch.testing": "What medsearch asks of the parts that it ships, for parts of your own.",
}
"""What is described, each module's ``__all__`` in full, with a sentence before it."""

_HEAD = """\
# Reference of the Python API

Made by `make docs` from the signatures and docstrings of the package; edit those. [tutorial.md](tutorial.md) shows a
whole search from Python, and [extending.md](extending.md) how to add parts of your own.
"""
_LONGEST = 100
"""Characters of a signature on one line."""

_STARS: Mapping[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_SECTION = re.compile(r"(Args|Raises|Returns|Yields):")
_ENTRY = re.compile(r"(?P<names>[\w*., ]+?): (?P<text>.*)")
_ROLE = re.compile(r":\w+:`(?P<short>~?)(?P<name>[\w.]+)`")


def reference() -> str:
    """All of the page, in Markdown."""
    return "\n".join([_HEAD, *(_module(name, about) for name, about in MODULES.items())])


def _module(name: str, about: str) -> str:
    found = {title: one for title, one in _titles().items() if title.rpartition(".")[0] == name}
    contents = ", ".join(_link(title, f"`{title.removeprefix(f'{name}.')}`") for title in found)
    return "\n".join([f"## {name}\n\n{about}\n\n{contents}\n", *(_entry(*each) for each in found.items())])


def _entry(title: str, found: Any) -> str:
    parts = [f"### {title}", _signature(title.rpartition(".")[2], found), _text(found)]
    if inspect.isclass(found):
        parts += [*_tables(found), *(_member(found, *each) for each in _members(found))]
    return "\n\n".join(parts) + "\n"


def _member(owner: type, name: str, member: Any) -> str:
    title = f"{owner.__name__}.{name}"
    if isinstance(member, property | cached_property):
        function = member.fget if isinstance(member, property) else member.func
        signature = _fenced(f"{title}: {inspect.signature(function).return_annotation}")  # type: ignore[arg-type]
    else:
        signature = _signature(title, getattr(member, "__func__", member), bound=not isinstance(member, staticmethod))
    return f"#### {title}\n\n{signature}\n\n{_text(member)}"


def _members(owner: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties by name, those that a class of medsearch gives to it too."""
    kinds = (FunctionType, classmethod, staticmethod, property, cached_property)
    seen: dict[str, Any] = {}
    for kind in owner.__mro__:
        if kind.__module__.startswith("medsearch."):
            seen |= {name: member for name, member in vars(kind).items() if name not in seen}
    return ((name, member) for name, member in seen.items() if isinstance(member, kinds) and name[0] != "_")


def _signature(name: str, function: Any, *, bound: bool = False) -> str:
    """As it is called: on one line where that is short, else with a line for each argument."""
    signature = inspect.signature(function)
    arguments = list(_arguments(list(signature.parameters.values())[bound:]))
    returned = "" if inspect.isclass(function) else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(arguments)}){returned}"
    if len(line) > _LONGEST:
        line = "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returned}"])
    return _fenced(line)


def _arguments(parameters: list[inspect.Parameter]) -> Iterator[str]:
    """Each as it is written, with ``*`` before the first that is given by name."""
    by_position = True
    for one in parameters:
        if by_position and one.kind is one.KEYWORD_ONLY:
            yield "*"
        by_position = by_position and one.kind is not one.KEYWORD_ONLY and one.kind is not one.VAR_POSITIONAL
        annotation = "" if one.annotation is one.empty else f": {one.annotation}"
        yield _STARS.get(one.kind, "") + one.name + annotation + _default(one)


def _default(parameter: inspect.Parameter) -> str:
    """What stands for an argument that is not given; ``...`` where it is made anew each time."""
    if parameter.default is parameter.empty:
        return ""
    shown = repr(parameter.default)
    return f" = {'...' if shown.startswith('<') else shown}"


def _fenced(code: str) -> str:
    return f"```text\n{code}\n```"


def _text(found: Any) -> str:
    """The docstring of an object, in Markdown."""
    doc = inspect.getdoc(found)
    if not doc:
        raise ValueError(f"{found}: has no docstring, so there is nothing to say of it.")
    return "\n".join(_sections(doc.splitlines()))


def _sections(lines: list[str]) -> Iterator[str]:
    """The lines with each section as a list of its entries, and single backticks around code."""
    inside = False
    for line in lines:
        if heading := _SECTION.fullmatch(line):
            inside = True
            yield from (f"*{heading[1]}*", "")
        elif not line or not line.startswith(" "):
            inside = inside and not line
            yield _marked(line)
        elif not inside:
            yield line
        elif line.startswith(" " * 5):
            yield f"  {_marked(line.strip())}"
        else:
            yield _item(line.strip())


def _item(line: str) -> str:
    """``dim, dims: channels`` as an entry of a list."""
    entry = _ENTRY.fullmatch(line)
    if entry is None:
        return f"- {_marked(line)}"
    names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
    return f"- {names}: {_marked(entry['text'])}"


def _marked(line: str) -> str:
    """Roles and double backticks as single ones, a name that this page describes as a link to it."""

    def name(role: re.Match[str]) -> str:
        full = role["name"]
        code = f"`{full.rpartition('.')[2] if role['short'] else full}`"
        return _link(full, code) if full in _titles() else code

    return _ROLE.sub(name, line).replace("``", "`").replace("::", ":")


def _link(title: str, text: str) -> str:
    """A link to the heading ``title`` of this page, as GitHub calls it."""
    return f"[{text}](#{title.lower().replace('.', '')})"


@cache
def _titles() -> Mapping[str, Any]:
    """What is described, by its full name: functions first."""
    modules = {name: importlib.import_module(name) for name in MODULES}
    found = {f"{name}.{each}": getattr(module, each) for name, module in modules.items() for each in module.__all__}
    return dict(sorted(found.items(), key=lambda entry: inspect.isclass(entry[1])))


def _tables(owner: type) -> Iterator[str]:
    """The options among the fields of a class, and what a budget may limit, where there are any."""
    if options := options_of(owner) if is_dataclass(owner) else {}:
        defaults = {field.name: repr(field.default) for field in fields(owner)}
        yield _table(
            ("option", "on the command line", "like", "default", "what it is"),
            [(name, one.flag, one.example, defaults[name], one.about) for name, one in options.items()],
        )
    if owner is Budget:
        costs = {name: cost_named(name, where="budget") for name in sorted(COSTS)}
        yield _table(
            ("limit", "on the command line", "like", "unit", "what it is"),
            [(name, f"--budget-{one.option}", one.example, one.unit, one.about) for name, one in costs.items()],
        )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of code, but for the last column."""
    lines = [[*(f"`{cell}`" if cell else "" for cell in row[:-1]), _marked(row[-1])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *lines))


if __name__ == "__main__":
    print(reference(), end="")
