"""A space read from YAML: every wrong line is answered with its place, what was seen, and what is legal there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medsearch.core.config import read_yaml
from medsearch.core.errors import SpaceError, suggest
from medsearch.core.library import find
from medsearch.spaces.genotype import is_value
from medsearch.spaces.published import read_published
from medsearch.spaces.space import BLOCK_KEYS, NO_PART, Space
from medsearch.spaces.tree import count_of, is_open, label_of, leaves_of

_KEYS = {"name", "about", "dims", "stem", "down", "heads", "stages", "size", "published"}
_STAGE_KEYS = {"dim", "depth", "down", "mixers", "blocks", *BLOCK_KEYS}
_SEARCHED = "To search, write {choice: [...]} or {range: [low, high]}."


def load_space(name: str, *, task: str = "classification", like: str = "") -> Space:
    """The shipped space called ``name``, or the one in the file ``name``, with the head that it has for ``task``.

    Args:
        name: of a space, or of a YAML file.
        task, like: as for :func:`read_space`.

    Raises:
        SpaceError: for a space that does not exist, or whose file says something else than a space.
    """
    path = find("spaces", name)
    source = str(path) if name.endswith((".yaml", ".yml")) else name
    return read_space(read_yaml(path), source, task=task, like=like)


def read_space(data: Any, source: str, *, task: str = "classification", like: str = "") -> Space:
    """Check the shape of a space read from YAML and bind it to a task's head.

    Args:
        data: the YAML.
        source: what messages call it.
        task: whose head to take.
        like: another task, whose head is taken where the space has none for ``task``.

    Raises:
        SpaceError: naming the file, the path within it, what was seen and what is legal there.
    """
    if not isinstance(data, dict):
        raise SpaceError(source, f"expected a space with the keys {', '.join(sorted(_KEYS))}, got {data!r}.")
    for key in sorted(set(map(str, data)) - _KEYS):
        raise SpaceError(source, f"unknown key '{key}'.", suggest(key, _KEYS))
    for key in sorted({"name", "dims", "stem", "heads", "stages"} - set(data)):
        raise SpaceError(source, f"'{key}' is missing.")
    if not isinstance(data["name"], str) or not data["name"]:
        raise SpaceError(f"{source}: name", f"expected a text, got {data['name']!r}.")
    if type(data["dims"]) is not int or data["dims"] not in (2, 3):
        raise SpaceError(f"{source}: dims", f"expected 2 or 3, got {data['dims']!r}.")
    heads = data["heads"]
    if not isinstance(heads, dict) or not heads:
        raise SpaceError(f"{source}: heads", f"expected a head per task, got {heads!r}.")
    served = task if task in heads else like
    if served not in heads:
        raise SpaceError(f"{source}: heads", f"no head for task '{task}'.", f"Tasks: {', '.join(map(str, heads))}.")
    if not isinstance(data["stages"], list) or not data["stages"]:
        raise SpaceError(f"{source}: stages", f"expected a list of stages, got {data['stages']!r}.")
    down = data.get("down", {"name": "conv3s2"})
    stages = [_read_stage(stage, f"{source}: stages[{i}]", down, i) for i, stage in enumerate(data["stages"])]
    tree = {"stem": _read_part(data["stem"], f"{source}: stem"), "stages": stages}
    tree["head"] = _read_part(heads[served], f"{source}: heads.{served}")
    _check_options(tree, f"{source}: ")
    published = None
    if "published" in data:
        published = read_published(data["published"], f"{source}: published", data["dims"])
    return Space(
        name=data["name"],
        dims=data["dims"],
        tree=tree,
        source=source,
        about=str(data.get("about", "")),
        image=_read_size(data["size"], f"{source}: size", data["dims"]) if "size" in data else None,
        published=published,
    )


def _read_size(size: Any, where: str, dims: int) -> tuple[int, ...]:
    if not isinstance(size, list) or len(size) != dims or not all(map(_is_count, size)):
        raise SpaceError(where, f"expected {dims} whole numbers, got {size!r}.", "It is the smallest image to be used.")
    return tuple(size)


def _read_stage(stage: Any, where: str, down: Any, index: int) -> dict[str, Any]:
    """The tree of a stage: what its blocks share under their names, and under ``cycle`` what they take in turns."""
    if not isinstance(stage, dict):
        raise SpaceError(where, f"expected a stage with the keys {', '.join(sorted(_STAGE_KEYS))}, got {stage!r}.")
    for key in sorted(set(map(str, stage)) - _STAGE_KEYS):
        raise SpaceError(where, f"unknown key '{key}'.", suggest(key, _STAGE_KEYS))
    if "dim" not in stage:
        raise SpaceError(where, "'dim' is missing.")
    for key in ("dim", "depth"):
        _check_leaves(stage.get(key, 1), f"{where}.{key}", "a whole number, at least 1", _is_count)
    if index == 0 and "down" in stage:
        raise SpaceError(f"{where}.down", "the first stage has no downsampling.", "The stem leads into it.")
    name, entries = _cycle(stage, where)
    if len(entries) > (least := min(leaves_of(stage.get("depth", 1)))):
        problem = f"a cycle of {len(entries)} {name} is longer than the depth, {least}."
        raise SpaceError(f"{where}.{name}", problem, "Shorten the cycle, or make the stage deeper.")
    shared = {"position": NO_PART, "local": NO_PART, "residual": "each", "layer_scale": None}
    shared |= {key: stage[key] for key in BLOCK_KEYS if key in stage}
    own = {key for entry in entries for key in entry}
    for i, entry in enumerate(entries):
        for key in sorted({"mixer", "channel", *own} - set(shared) - set(entry)):
            raise SpaceError(f"{where}.{name}[{i}]" if own else where, f"'{key}' is missing.")
    return {
        "dim": stage["dim"],
        "depth": stage.get("depth", 1),
        "down": None if index == 0 else _read_part(stage.get("down", down), f"{where}.down"),
        **{key: _read_block_key(key, value, where) for key, value in shared.items() if key not in own},
        "cycle": [
            {
                key: _read_block_key(key, entry.get(key, shared.get(key)), f"{where}.{name}[{i}]")
                for key in BLOCK_KEYS
                if key in own
            }
            for i, entry in enumerate(entries)
        ],
    }


def _cycle(stage: dict[str, Any], where: str) -> tuple[str, list[dict[str, Any]]]:
    """What the blocks of a stage take in turns, and under which key it is written; all the same is a cycle of one."""
    written = [key for key in ("mixer", "mixers", "blocks") if key in stage]
    if written == ["blocks"] or set(written) == {"mixer", "blocks"}:
        entries = stage["blocks"]
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise SpaceError(f"{where}.blocks", f"expected a list of blocks, got {entries!r}.")
        for i, entry in enumerate(entries):
            for key in sorted(set(map(str, entry)) - set(BLOCK_KEYS)):
                raise SpaceError(f"{where}.blocks[{i}]", f"unknown key '{key}'.", suggest(key, BLOCK_KEYS))
        return "blocks", entries
    if len(written) != 1:
        raise SpaceError(where, "expected one of 'mixer', 'mixers' (a cycle of them) and 'blocks' (a cycle of them).")
    if written == ["mixer"]:
        return "mixer", [{}]
    mixers = stage["mixers"]
    if not isinstance(mixers, list) or not mixers:
        raise SpaceError(f"{where}.mixers", f"expected a list of mixers, got {mixers!r}.")
    return "mixers", [{"mixer": mixer} for mixer in mixers]


def _read_block_key(key: str, node: Any, where: str) -> Any:
    if key == "residual":
        _check_leaves(node, f"{where}.residual", "'each' or 'joint'", lambda leaf: leaf in ("each", "joint"))
        return node
    if key == "layer_scale":
        numbers = (int, float)
        _check_leaves(node, f"{where}.layer_scale", "a number", lambda leaf: leaf is None or type(leaf) in numbers)
        return node
    return _read_part(node, f"{where}.{key}")


def _read_part(node: Any, where: str) -> Any:
    """A part as a name, as name with knobs, or a choice of parts, brought to the form name with knobs."""
    if isinstance(node, str):
        return {"name": node}
    if is_open(node):
        options = node.get("choice")
        if set(node) != {"choice"} or not isinstance(options, list) or not options:
            raise SpaceError(where, f"expected a choice of parts, got {node!r}.", "Write {choice: [{name: ...}, ...]}.")
        return {"choice": [_read_part(option, f"{where}.choice[{i}]") for i, option in enumerate(options)]}
    named = isinstance(node, dict) and isinstance(node.get("name"), str) and all(isinstance(key, str) for key in node)
    if not named:
        raise SpaceError(where, f"expected a part with a name, got {node!r}.", "Write {name: dwconv, kernel: 5}.")
    for knob, value in node.items():
        _check_leaves(value, f"{where}.{knob}", "a single value", is_value)
    return dict(node)


def _check_leaves(node: Any, where: str, wanted: str, fits: Callable[[Any], bool]) -> None:
    """Refuse a value, or an option of an open one, that does not fit."""
    _check_options(node, where)
    for leaf in leaves_of(node):
        if not fits(leaf):
            remedy = _SEARCHED if isinstance(leaf, list | dict) else ""
            raise SpaceError(where, f"expected {wanted}, got {leaf!r}.", remedy)


def _check_options(node: Any, where: str) -> None:
    """Refuse choices that are empty, mixed, doubled or wrongly spelt before any is drawn."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_options(item, f"{where}[{i}]")
    elif is_open(node):
        _check_open(node, where)
        for i, option in enumerate(node.get("choice", [])):
            _check_options(option, f"{where}.choice[{i}]")
    elif isinstance(node, dict):
        for key, item in node.items():
            _check_options(item, f"{where}.{key}" if not where.endswith(" ") else f"{where}{key}")


def _check_open(node: dict[str, Any], where: str) -> None:
    if len(node) != 1:
        raise SpaceError(where, f"'choice' or 'range' stands alone, got the keys {', '.join(map(str, node))}.")
    if "range" in node:
        ends = node["range"]
        whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
        if not whole or ends[0] > ends[1]:
            raise SpaceError(where, f"expected range: [low, high] in whole numbers, got {ends!r}.")
        return
    options = node["choice"]
    if not isinstance(options, list) or not options:
        raise SpaceError(where, f"expected a list of options, got {options!r}.")
    labels = [label_of(option) for option in options]
    for i, (label, option) in enumerate(zip(labels, options, strict=True)):
        if is_open(option):
            raise SpaceError(f"{where}.choice[{i}]", "a choice cannot be an option.", "Write all options in one list.")
        if label in labels[:i]:
            raise SpaceError(f"{where}.choice[{i}]", f"option {label!r} is there twice.", "Remove one of them.")
    named = [option for option in options if isinstance(option, dict)]
    for option in named:
        if len([other for other in named if other.get("name") == option.get("name")]) > 1 and count_of(option) > 1:
            problem = f"'{option.get('name')}' is there twice, and its knobs are open."
            raise SpaceError(where, problem, "Write one option with all its choices, or give every knob one value.")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1
