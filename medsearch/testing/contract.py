"""What all checks share: saying what the contract wants, and finding a part by its name or class."""

from __future__ import annotations

from medsearch.core.registry import Registry


def wants(holds: object, contract: str) -> None:
    """AssertionError with ``contract`` unless ``holds``; also where Python leaves its own assertions out."""
    if not holds:
        raise AssertionError(contract)


def registered(registry: Registry, part: str | type) -> tuple[str, type]:
    """Name and class of a part that is given as either of them."""
    if isinstance(part, str):
        return part, registry.find(part, where=f"{registry.kind} '{part}'")
    names = [name for name in registry if registry[name] is part]
    wants(names, f"{part.__name__} is not a registered {registry.kind}: decorate the class with .add(name).")
    return names[0], part
