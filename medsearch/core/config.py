"""YAML read with checks: a mistake is refused with its file, its place in the file, its line and the likely remedy."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medsearch.core.errors import MedsearchError, SpaceError, suggest

_MOST_VALUES, _LONGEST_PATH = 100_000, 1_000
_NUMBER = re.compile(r"([-+]?)(\d*)(\.?\d*)(?:[eE]([-+]?)(\d+))?")
_CONTAINERS = (Mapping, list, tuple)


@dataclass(frozen=True)
class Node:
    """A value and where it was written, asked by hand for what it should be: ``node.integer(low=1)``.

    Args:
        value: what YAML or JSON gave: a mapping, list, text, number, boolean or nothing.
        source: the file, or whatever else errors should begin with.
        path: the place within it, such as ``stages[1].mixer``.
        error: the class of the errors raised.
        lines: line number by path, where known.
    """

    value: Any
    source: str
    path: str = ""
    error: type[MedsearchError] = SpaceError
    lines: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        """``tiny.yaml: stages[1].mixer (line 12)``."""
        line = f" (line {self.lines[self.path]})" if self.path in self.lines else ""
        return f"{self.source}: {self.path}{line}" if self.path else self.source

    def wrong(self, problem: str, remedy: str = "") -> MedsearchError:
        """The error to raise about this value."""
        return self.error(self.where, problem, remedy)

    def _expected(self, what: str, remedy: str = "") -> MedsearchError:
        return self.wrong(f"expected {what}, got {_describe(self.value)}.", remedy)

    def _inside(self, value: Any, path: str) -> Node:
        return Node(value, self.source, path, self.error, self.lines)

    def entries(self) -> dict[str, Node]:
        """The entries of a mapping with any names."""
        if not isinstance(self.value, Mapping):
            raise self._expected("a mapping")
        for key in self.value:
            if not isinstance(key, str):
                raise self.wrong(f"expected names as keys, got {_describe(key)}.", f"Quote it: '{key}'.")
        return {key: self._inside(value, _join(self.path, key)) for key, value in self.value.items()}

    def mapping(self, *, required: Collection[str] = (), optional: Collection[str] = ()) -> dict[str, Node]:
        """The entries of a mapping that has all ``required`` names, perhaps ``optional`` ones, and no others."""
        entries = self.entries()
        known = {*required, *optional}
        for key, entry in entries.items():
            if key not in known:
                raise entry.wrong(f"unknown key '{key}'.", suggest(key, known))
        if missing := sorted(set(required) - set(entries)):
            raise self.wrong(f"missing {', '.join(missing)}.", f"Needed: {', '.join(sorted(required))}.")
        return entries

    def items(self) -> list[Node]:
        """The items of a list, perhaps none."""
        if not isinstance(self.value, (list, tuple)):
            raise self._expected("a list", "Write it in brackets: [a, b].")
        return [self._inside(value, f"{self.path}[{index}]") for index, value in enumerate(self.value)]

    def text(self) -> str:
        """A text that is not empty."""
        if isinstance(self.value, bool):
            raise self._expected("a text", "YAML reads yes, no, on and off as true or false: put the text in quotes.")
        if not isinstance(self.value, str) or not self.value:
            quotable = self.value is not None and not isinstance(self.value, (str, *_CONTAINERS))
            raise self._expected("a text", "Put it in quotes." if quotable else "")
        return self.value

    def choice(self, options: Collection[str]) -> str:
        """One of the texts ``options``."""
        if (seen := self.text()) not in options:
            raise self.wrong(f"unknown choice '{seen}'.", suggest(seen, options))
        return seen

    def boolean(self) -> bool:
        """``true`` or ``false``."""
        if not isinstance(self.value, bool):
            raise self._expected("true or false")
        return self.value

    def integer(self, *, low: float = -math.inf, high: float = math.inf) -> int:
        """A whole number from ``low`` to ``high``, both included; ``3.0`` and ``true`` are none."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self._expected("a whole number" + _range(low, high))
        return self.value

    def number(self, *, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number from ``low`` to ``high``, both included."""
        number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        if not number or not abs(self.value) <= sys.float_info.max or not low <= self.value <= high:
            raise self._expected("a number" + _range(low, high), _as_yaml_number(self.value))
        return float(self.value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    return "nothing" if value is None else "a list" if isinstance(value, _CONTAINERS) else f"{value}"


def _range(low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if math.isfinite(low) else f" of at most {high:g}" if math.isfinite(high) else ""


def _as_yaml_number(value: Any) -> str:
    """The hint for a text that means a number: YAML 1.1 wants digits, a point and a signed exponent, and no quotes."""
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or not any(digit.isdigit() for digit in match[2] + match[3]):
        return ""
    sign, whole, fraction, exponent_sign, exponent = match.groups()
    tail = f"{'' if fraction else '.0'}e{exponent_sign or '+'}{exponent}" if exponent else ""
    return f"YAML wants {sign}{whole or 0}{fraction}{tail}, without quotes."


def parse_yaml(text: str, source: str, *, error: type[MedsearchError] = SpaceError) -> Node:
    """The mapping written in ``text``, with line numbers; broken YAML or a key given twice raises ``error``."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        lines = _lines(root)
        value = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        raise error(f"{source} (line {mark.line + 1})" if mark else source, f"{problem.problem}.") from problem
    except (yaml.YAMLError, ValueError) as problem:
        raise error(source, f"is not YAML: {problem}.") from problem
    node = Node(value, source, error=error, lines=lines)
    node.entries()
    return node


def read_node(path: str | Path, *, error: type[MedsearchError] = SpaceError) -> Node:
    """Like :func:`parse_yaml`, from a file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise error(str(path), f"cannot be read: {problem.strerror}.") from problem
    except UnicodeDecodeError as problem:
        raise error(str(path), f"is not UTF-8 text: {problem.reason} at byte {problem.start}.") from problem
    return parse_yaml(text, str(path), error=error)


def read_yaml(path: str | Path, *, error: type[MedsearchError] = SpaceError) -> dict[str, Any]:
    """The mapping in a YAML file as plain Python values; for checked reading start from :func:`read_node`."""
    return dict(read_node(path, error=error).value)


def _lines(root: yaml.Node | None) -> dict[str, int]:
    """The line of every value by its path (of its key, if it has one); refuses a key given twice."""
    lines: dict[str, int] = {}
    todo: list[tuple[yaml.Node | None, str]] = [(root, "")]
    while todo:
        node, path = todo.pop()
        for value, inside, mark in _children(node, path):
            if len(lines) > _MOST_VALUES or len(inside) > _LONGEST_PATH:
                raise yaml.MarkedYAMLError(problem="too many values, or aliases without end", problem_mark=mark)
            lines[inside] = mark.line + 1
            todo.append((value, inside))
    return lines


def _children(node: yaml.Node | None, path: str) -> list[tuple[yaml.Node, str, yaml.Mark]]:
    if isinstance(node, yaml.SequenceNode):
        return [(value, f"{path}[{index}]", value.start_mark) for index, value in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return []
    children: dict[str, tuple[yaml.Node, str, yaml.Mark]] = {}
    for key, value in node.value:
        name = f"{key.value}"
        if name in children:
            first = children[name][2].line + 1
            problem = f"{_join(path, name)}: this key was given before, in line {first}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        children[name] = (value, _join(path, name), key.start_mark)
    return list(children.values())
