"""Options told once, as the fields of a dataclass: what the command line, recipes and Python take is read off them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from medsearch.core.config import Node
from medsearch.core.errors import UsageError

Parse = Callable[..., Any]
"""Reads a quantity that a person wrote: ``parse("1GB", where="--budget-mem")``."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option.

    Args:
        name: of the field, which is the key in a recipe and the argument in Python.
        about: what it is, for the help.
        example: a value as people write it.
        kind: ``str``, ``int``, ``float``, ``bool``, or ``tuple`` of texts, which a text separates by commas.
        parse: reads a quantity with its unit, where the value is one.
        choices: the texts that are allowed, where not all are.
        least: smallest number that is allowed.
    """

    name: str
    about: str
    example: str = ""
    kind: type = str
    parse: Parse | None = None
    choices: tuple[str, ...] = ()
    least: float = 1

    @property
    def flag(self) -> str:
        """``--epochs-search``."""
        return f"--{self.name.replace('_', '-')}"

    def of_text(self, text: str) -> Any:
        """The value that was written on the command line."""
        value: Any = text
        if self.parse is None and self.kind in (int, float):
            try:
                value = self.kind(text)
            except ValueError:
                what = "a whole number" if self.kind is int else "a number"
                raise UsageError(self.flag, f"expected {what}, got '{text}'.", f"Like: {self.flag} 3") from None
        return self.of_node(Node(value, self.flag, error=UsageError))

    def of_node(self, node: Node) -> Any:
        """The value in a recipe, or given in Python."""
        if self.parse is not None:
            quantity = node.number(low=0) if isinstance(node.value, (int, float)) else node.value
            return self.parse(node.value, where=node.where) if isinstance(quantity, str) else quantity
        if self.choices:
            return node.choice(self.choices)
        if self.kind is bool:
            return node.boolean()
        if self.kind is tuple:
            words = node.text().split(",") if isinstance(node.value, str) else [item.text() for item in node.items()]
            return tuple(word.strip() for word in words)
        if self.kind in (int, float):
            return node.integer(low=self.least) if self.kind is int else node.number(low=self.least)
        return node.text()


def option(
    default: Any,
    about: str,
    *,
    example: str = "",
    parse: Parse | None = None,
    choices: tuple[str, ...] = (),
    least: float = 1,
) -> Any:
    """A field of a dataclass that is an option; None as its default leaves the choice to medsearch.

    Args:
        default: of the field.
        about, example, parse, choices, least: see :class:`Option`.
    """
    told = {"about": about, "example": example, "parse": parse, "choices": choices, "least": least}
    return field(default=default, metadata={"option": told})


def options_of(config: type) -> dict[str, Option]:
    """The options among the fields of a dataclass, by name."""
    return {
        each.name: Option(name=each.name, kind=_kind(str(each.type)), **each.metadata["option"])
        for each in fields(config)
        if "option" in each.metadata
    }


def _kind(annotation: str) -> type:
    """``int`` of ``int | None``; not evaluated, because other fields may name what is not imported."""
    kinds = {"str": str, "int": int, "float": float, "bool": bool, "tuple[str, ...]": tuple}
    return kinds[annotation.removesuffix(" | None")]
