"""A search space: a genotype with some of its values left open, and the operations of a search on it.

The space is a tree of plain values in which ``{choice: [...]}`` and ``{range: [low, high]}`` (whole numbers, both ends
included) may stand for any value or part.  A *gene* is one open decision, named by its path (``stages.0.mixer``,
``stages.0.mixer.dwconv.kernel``); a gene exists only where the choices above it lead to it, so no gene is ever dead.
Nothing here imports torch; whether a part exists and takes a knob is asked of the ``backbones`` room.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medsearch.core.errors import SpaceError, suggest
from medsearch.spaces.genotype import Genotype, Part

Genes = dict[str, Any]
Choose = Callable[[str, list[Any]], Any]

_KEYS = {"name", "about", "dims", "stem", "down", "heads", "stages"}
_BLOCK_KEYS = ("mixer", "channel", "position", "local", "residual", "layer_scale")
_STAGE_KEYS = {"dim", "depth", "down", "mixers", "blocks", *_BLOCK_KEYS}
_NO_PART = {"name": "none"}
_SEARCHED = "To search, write {choice: [...]} or {range: [low, high]}."


@dataclass(frozen=True, kw_only=True)
class Space:
    """Architectures to search among.

    Args:
        name: how people call it.
        dims: spatial axes, 2 or 3.
        tree: the open genotype: ``stem``, ``down``, ``head`` and ``stages``, with choices in it.
        source: file it was read from, for messages.
        about: one line on what it is for.
    """

    name: str
    dims: int
    tree: dict[str, Any]
    source: str
    about: str = ""

    def express(self, choose: Choose) -> Genotype:
        """Build the genotype that results from asking ``choose(gene, options)`` for every open decision."""
        resolved = _resolve(self.tree, "", choose)
        return Genotype.from_data(_expand(resolved, self.dims), self.source)

    def decode(self, genes: Mapping[str, Any]) -> Genotype:
        """The genotype of these genes; SpaceError if one is missing or has a value outside the space."""

        def choose(gene: str, options: list[Any]) -> Any:
            if gene not in genes:
                raise SpaceError(self.source, f"gene '{gene}' is missing.", f"It is one of {options}.")
            if genes[gene] not in options:
                raise SpaceError(self.source, f"gene '{gene}': {genes[gene]!r} is not one of {options}.")
            return genes[gene]

        return self.express(choose)

    def encode(self, genotype: Genotype) -> Genes:
        """The genes that lead to ``genotype``; SpaceError if it is not in the space."""
        genes = _match(self.tree, _contract(genotype, self.tree), "")
        if genes is None or self.decode(genes) != genotype:
            raise SpaceError(self.source, f"architecture {genotype.id} is not in space '{self.name}'.")
        return genes

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype, uniform over the networks of the space: an option weighs as much as lies below it."""
        weights = _weights(self.tree, "")

        def choose(gene: str, options: list[Any]) -> Any:
            return rng.choices(options, weights[gene])[0]

        return self.express(choose)

    def size(self) -> int:
        """How many different architectures the space holds, exactly."""
        return _count(self.tree)

    def genes(self) -> dict[str, list[Any]]:
        """Every gene of the space with its options, conditional ones included."""
        return dict(_genes(self.tree, ""))

    def mutate(self, genotype: Genotype, rng: random.Random) -> Genotype:
        """Change one gene at random; genes that appear by the change are drawn at random."""
        genes = self.encode(genotype)
        options = self.genes()
        free = sorted(gene for gene in genes if len(options[gene]) > 1)
        if not free:
            return genotype
        gene = rng.choice(free)
        value = rng.choice([option for option in options[gene] if option != genes[gene]])
        return self._with({**genes, gene: value}, rng)

    def crossover(self, one: Genotype, other: Genotype, rng: random.Random) -> Genotype:
        """Take every gene from one of two parents; a gene that neither has is drawn at random."""
        first, second = self.encode(one), self.encode(other)
        mixed = {
            gene: rng.choice([parent[gene] for parent in (first, second) if gene in parent])
            for gene in sorted(first | second)
        }
        return self._with(mixed, rng)

    def neighbours(self, genotype: Genotype) -> Iterator[Genotype]:
        """All genotypes one gene away, with all values of the genes that appear by the change."""
        genes, options = self.encode(genotype), self.genes()
        for gene, value in genes.items():
            for option in options[gene]:
                if option != value:
                    yield from self._all_with({**genes, gene: option})

    def repair(self, genotype: Genotype, excess: Callable[[Genotype], float], rng: random.Random) -> Genotype | None:
        """A genotype near ``genotype`` with ``excess(g) <= 0``, by the fewest single-gene steps a greedy walk finds.

        Each step takes a random feasible neighbour if there is one, else the neighbour with the least excess.
        None if the walk ends in a place where no neighbour is better.
        """
        current = excess(genotype)
        while current > 0:
            scored = [(excess(neighbour), neighbour) for neighbour in self.neighbours(genotype)]
            feasible = [neighbour for value, neighbour in scored if value <= 0]
            if feasible:
                return rng.choice(feasible)
            best = min(scored, key=lambda pair: pair[0], default=(current, genotype))
            if best[0] >= current:
                return None
            current, genotype = best
        return genotype

    def minimise(self, value: Callable[[Genotype], float]) -> Genotype:
        """A genotype of which no single-gene change has a smaller ``value``: the smallest, where genes add up."""
        best = self.first()
        least = value(best)
        while True:
            candidate = min(self.neighbours(best), key=value, default=best)
            if value(candidate) >= least:
                return best
            best, least = candidate, value(candidate)

    def first(self) -> Genotype:
        """The genotype whose every gene takes its first option."""
        return self._with({})

    def reach(self, gene: str, option: Any) -> Genotype:
        """A genotype in which ``gene`` exists and has this option; all other genes take their first one."""
        genes: Genes = {gene: option}
        for above, options in self.genes().items():
            for label in options:
                if gene.startswith(f"{above}.{str(label).split('(')[0]}."):
                    genes[above] = label
        return self._with(genes)

    def _all_with(self, genes: Genes) -> Iterator[Genotype]:
        left: Genes = {}

        def choose(gene: str, options: list[Any]) -> Any:
            if gene in genes and genes[gene] in options:
                return genes[gene]
            left.setdefault(gene, options)
            return options[0]

        genotype = self.express(choose)
        if not left:
            yield genotype
            return
        gene, options = next(iter(left.items()))
        for option in options:
            yield from self._all_with({**genes, gene: option})

    def _with(self, genes: Genes, rng: random.Random | None = None) -> Genotype:
        def choose(gene: str, options: list[Any]) -> Any:
            if gene in genes and genes[gene] in options:
                return genes[gene]
            return rng.choice(options) if rng else options[0]

        return self.express(choose)


def read_space(data: Any, source: str, *, task: str = "classification") -> Space:
    """Check the shape of a space read from YAML and bind it to a task's head.

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
    if task not in heads:
        raise SpaceError(f"{source}: heads", f"no head for task '{task}'.", f"Tasks: {', '.join(map(str, heads))}.")
    if not isinstance(data["stages"], list) or not data["stages"]:
        raise SpaceError(f"{source}: stages", f"expected a list of stages, got {data['stages']!r}.")
    down = data.get("down", {"name": "conv3s2"})
    stages = [_read_stage(stage, f"{source}: stages[{i}]", down, i) for i, stage in enumerate(data["stages"])]
    tree = {"stem": _read_part(data["stem"], f"{source}: stem"), "stages": stages}
    tree["head"] = _read_part(heads[task], f"{source}: heads.{task}")
    _check_options(tree, f"{source}: ")
    return Space(name=data["name"], dims=data["dims"], tree=tree, source=source, about=str(data.get("about", "")))


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
    if len(entries) > (least := min(_leaves(stage.get("depth", 1)))):
        problem = f"a cycle of {len(entries)} {name} is longer than the depth, {least}."
        raise SpaceError(f"{where}.{name}", problem, "Shorten the cycle, or make the stage deeper.")
    shared = {"position": _NO_PART, "local": _NO_PART, "residual": "each", "layer_scale": None}
    shared |= {key: stage[key] for key in _BLOCK_KEYS if key in stage}
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
                for key in _BLOCK_KEYS
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
            for key in sorted(set(map(str, entry)) - set(_BLOCK_KEYS)):
                raise SpaceError(f"{where}.blocks[{i}]", f"unknown key '{key}'.", suggest(key, _BLOCK_KEYS))
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
    if _is_open(node):
        options = node.get("choice")
        if set(node) != {"choice"} or not isinstance(options, list) or not options:
            raise SpaceError(where, f"expected a choice of parts, got {node!r}.", "Write {choice: [{name: ...}, ...]}.")
        return {"choice": [_read_part(option, f"{where}.choice[{i}]") for i, option in enumerate(options)]}
    named = isinstance(node, dict) and isinstance(node.get("name"), str) and all(isinstance(key, str) for key in node)
    if not named:
        raise SpaceError(where, f"expected a part with a name, got {node!r}.", "Write {name: dwconv, kernel: 5}.")
    for knob, value in node.items():
        _check_leaves(value, f"{where}.{knob}", "a single value", lambda leaf: not isinstance(leaf, list | dict))
    return dict(node)


def _check_leaves(node: Any, where: str, wanted: str, fits: Callable[[Any], bool]) -> None:
    """Refuse a value, or an option of an open one, that does not fit."""
    _check_options(node, where)
    for leaf in _leaves(node):
        if not fits(leaf):
            remedy = _SEARCHED if isinstance(leaf, list | dict) else ""
            raise SpaceError(where, f"expected {wanted}, got {leaf!r}.", remedy)


def _check_options(node: Any, where: str) -> None:
    """Refuse choices that are empty, mixed, doubled or wrongly spelt before any is drawn."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            _check_options(item, f"{where}[{i}]")
    elif _is_open(node):
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
    labels = [_label(option) for option in options]
    for i, (label, option) in enumerate(zip(labels, options, strict=True)):
        if _is_open(option):
            raise SpaceError(f"{where}.choice[{i}]", "a choice cannot be an option.", "Write all options in one list.")
        if label in labels[:i]:
            raise SpaceError(f"{where}.choice[{i}]", f"option {label!r} is there twice.", "Remove one of them.")
    named = [option for option in options if isinstance(option, dict)]
    for option in named:
        if len([other for other in named if other.get("name") == option.get("name")]) > 1 and _count(option) > 1:
            problem = f"'{option.get('name')}' is there twice, and its knobs are open."
            raise SpaceError(where, problem, "Write one option with all its choices, or give every knob one value.")


def _is_open(node: Any) -> bool:
    return isinstance(node, dict) and ("choice" in node or "range" in node)


def _options(node: dict[str, Any]) -> list[Any]:
    if "range" in node:
        low, high = node["range"]
        return list(range(low, high + 1))
    return list(node["choice"])


def _label(option: Any) -> Any:
    """What a gene holds for this option: a plain value itself, a part's name with its fixed knobs."""
    if not isinstance(option, dict):
        return option
    fixed = {str(key): value for key, value in option.items() if key != "name" and not isinstance(value, dict | list)}
    return str(Part.of(str(option.get("name")), **fixed))


def _below(path: str, option: Any) -> str:
    return f"{path}.{option['name']}" if isinstance(option, dict) else path


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _resolve(node: Any, path: str, choose: Choose) -> Any:
    if _is_open(node):
        options = _options(node)
        labels = [_label(option) for option in options]
        option = options[labels.index(choose(path, labels))]
        return _resolve(option, _below(path, option), choose)
    if isinstance(node, dict):
        return {key: _resolve(item, _join(path, key), choose) for key, item in node.items()}
    if isinstance(node, list):
        return [_resolve(item, _join(path, i), choose) for i, item in enumerate(node)]
    return node


def _genes(node: Any, path: str) -> Iterator[tuple[str, list[Any]]]:
    if _is_open(node):
        options = _options(node)
        yield path, [_label(option) for option in options]
        for option in options:
            yield from _genes(option, _below(path, option))
    elif isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _genes(item, _join(path, key))


def _count(node: Any) -> int:
    if _is_open(node):
        return sum(_count(option) for option in _options(node))
    product = 1
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            product *= _count(item)
    return product


def _weights(node: Any, path: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    if _is_open(node):
        options = _options(node)
        found[path] = [_count(option) for option in options]
        for option in options:
            found |= _weights(option, _below(path, option))
    elif isinstance(node, dict | list):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            found |= _weights(item, _join(path, key))
    return found


def _match(node: Any, data: Any, path: str) -> Genes | None:
    """The genes under which ``node`` resolves to ``data``, or None."""
    if _is_open(node):
        for option in _options(node):
            below = _match(option, data, _below(path, option))
            if below is not None:
                return {path: _label(option), **below}
        return None
    if isinstance(node, dict):
        if not isinstance(data, dict) or set(node) != set(data):
            return None
        pairs = [(item, data[key], _join(path, key)) for key, item in node.items()]
    elif isinstance(node, list):
        if not isinstance(data, list) or len(node) != len(data):
            return None
        pairs = [(item, data[i], _join(path, i)) for i, item in enumerate(node)]
    else:
        return {} if node == data and isinstance(node, bool) == isinstance(data, bool) else None
    genes: Genes = {}
    for item, value, below_path in pairs:
        below = _match(item, value, below_path)
        if below is None:
            return None
        genes |= below
    return genes


def _expand(tree: dict[str, Any], dims: int) -> dict[str, Any]:
    """A resolved tree, whose stages say depth and a cycle of blocks, as genotype data, which says every block."""
    stages = []
    for stage in tree["stages"]:
        shared = {key: stage[key] for key in _BLOCK_KEYS if key in stage}
        blocks = [{**shared, **stage["cycle"][i % len(stage["cycle"])]} for i in range(stage["depth"])]
        for block in blocks:
            block |= {role: None for role in ("position", "local") if block[role] == _NO_PART}
        stages.append({"dim": stage["dim"], "down": stage["down"], "blocks": blocks})
    return {"dims": dims, "stem": tree["stem"], "stages": stages, "head": tree["head"]}


def _contract(genotype: Genotype, tree: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`_expand`, for matching: cycles as long as the tree's."""
    data = genotype.to_data()
    stages = []
    for stage, node in zip(data["stages"], tree["stages"], strict=False):
        blocks = [{"position": _NO_PART, "local": _NO_PART, **block} for block in stage["blocks"]]
        first = blocks[0] if blocks else dict.fromkeys(_BLOCK_KEYS)
        shared = {key: first[key] for key in _BLOCK_KEYS if key in node}
        cycle = [{key: block[key] for key in own} for own, block in zip(node["cycle"], blocks, strict=False)]
        entry = {"dim": stage["dim"], "depth": len(blocks), "down": stage["down"]}
        stages.append({**entry, **shared, "cycle": cycle})
    return {"stem": data["stem"], "stages": stages, "head": data["head"]}


def _leaves(node: Any) -> list[Any]:
    return _options(node) if _is_open(node) else [node]


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1
