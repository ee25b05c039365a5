"""Trees of plain values in which ``{choice: [...]}`` and ``{range: [low, high]}`` leave a decision open.

A *gene* is one open decision, named by its path (``stages.0.mixer.dwconv.kernel``); below an option that is a part, the
part's name is in the path, so that a gene belongs to one option.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from medsearch.spaces.genotype import Part

Genes = dict[str, Any]
Choose = Callable[[str, list[Any]], Any]


def is_open(node: Any) -> bool:
    """Whether a decision is open here."""
    return isinstance(node, dict) and ("choice" in node or "range" in node)


def options_of(node: dict[str, Any]) -> list[Any]:
    """What an open decision offers."""
    if "range" in node:
        low, high = node["range"]
        return list(range(low, high + 1))
    return list(node["choice"])


def label_of(option: Any) -> Any:
    """What a gene holds for this option: a plain value itself, a part's name with its fixed knobs."""
    if not isinstance(option, dict):
        return option
    fixed = {str(key): value for key, value in option.items() if key != "name" and not isinstance(value, dict | list)}
    return str(Part.of(str(option.get("name")), **fixed))


def path_below(path: str, option: Any) -> str:
    """The path of what lies below an option."""
    return f"{path}.{option['name']}" if isinstance(option, dict) else path


def path_to(path: str, key: Any) -> str:
    """The path of a key or an index of what lies at ``path``."""
    return f"{path}.{key}" if path else str(key)


def resolve(node: Any, path: str, choose: Choose) -> Any:
    """The tree without open decisions: each is answered by ``choose(gene, labels of its options)``."""
    if is_open(node):
        options = options_of(node)
        labels = [label_of(option) for option in options]
        option = options[labels.index(choose(path, labels))]
        return resolve(option, path_below(path, option), choose)
    if isinstance(node, dict):
        return {key: resolve(item, path_to(path, key), choose) for key, item in node.items()}
    if isinstance(node, list):
        return [resolve(item, path_to(path, i), choose) for i, item in enumerate(node)]
    return node


def genes_of(node: Any, path: str) -> Iterator[tuple[str, list[Any]]]:
    """Every gene with the labels of its options, those below an option included."""
    if is_open(node):
        options = options_of(node)
        yield path, [label_of(option) for option in options]
        for option in options:
            yield from genes_of(option, path_below(path, option))
    elif isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from genes_of(item, path_to(path, key))


def count_of(node: Any) -> int:
    """How many different trees without open decisions there are."""
    if is_open(node):
        return sum(count_of(option) for option in options_of(node))
    product = 1
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            product *= count_of(item)
    return product


def weights_of(node: Any, path: str) -> dict[str, list[int]]:
    """For every gene, how many trees lie below each of its options."""
    found: dict[str, list[int]] = {}
    if is_open(node):
        options = options_of(node)
        found[path] = [count_of(option) for option in options]
        for option in options:
            found |= weights_of(option, path_below(path, option))
    elif isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            found |= weights_of(item, path_to(path, key))
    return found


def match(node: Any, data: Any, path: str) -> Genes | None:
    """The genes under which ``node`` resolves to ``data``, or None."""
    if is_open(node):
        for option in options_of(node):
            below = match(option, data, path_below(path, option))
            if below is not None:
                return {path: label_of(option), **below}
        return None
    if isinstance(node, dict):
        if not isinstance(data, dict) or set(node) != set(data):
            return None
        pairs = [(item, data[key], path_to(path, key)) for key, item in node.items()]
    elif isinstance(node, list):
        if not isinstance(data, list) or len(node) != len(data):
            return None
        pairs = [(item, data[i], path_to(path, i)) for i, item in enumerate(node)]
    else:
        return {} if node == data and isinstance(node, bool) == isinstance(data, bool) else None
    genes: Genes = {}
    for item, value, below_path in pairs:
        below = match(item, value, below_path)
        if below is None:
            return None
        genes |= below
    return genes


def flat(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every decision and every fixed value with its path, in words: ``one of 8, 16``, ``conv``."""
    if is_open(node):
        options = options_of(node)
        yield path, "one of " + ", ".join(str(label_of(option)) for option in options)
        for option in options:
            if isinstance(option, dict):
                opened = {key: item for key, item in option.items() if isinstance(item, dict | list)}
                yield from flat(opened, path_below(path, option))
    elif isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from flat(item, path_to(path, key))
    else:
        yield path, str(node)


def variants(node: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part that a node can be, with each option of each of its knobs at least once, and the place of that option.

    Knobs are tried one at a time, the others at their first option.
    """
    if is_open(node):
        for i, option in enumerate(options_of(node)):
            yield from variants(option, f"{where}.choice[{i}]")
        return
    first = {knob: leaves_of(value)[0] for knob, value in node.items()}
    yield where, first
    for knob, value in node.items():
        for leaf in leaves_of(value)[1:]:
            yield f"{where}.{knob}", {**first, knob: leaf}


def leaves_of(node: Any) -> list[Any]:
    """The values that a node can take."""
    return options_of(node) if is_open(node) else [node]
