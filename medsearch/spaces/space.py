"""A search space: a genotype with some of its values left open, and the operations of a search on it.

The space is a tree (see ``medsearch.spaces.tree``); a gene exists only where the choices above it lead to it, so no
gene is ever dead.  Nothing here imports torch; whether a part exists and takes a knob is asked of the ``backbones``
room.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medsearch.core.errors import SpaceError
from medsearch.spaces.genotype import Block, Genotype, Part, Stage
from medsearch.spaces.published import Published
from medsearch.spaces.tree import Choose, Genes, count_of, flat, genes_of, match, resolve, weights_of

BLOCK_KEYS = ("mixer", "channel", "position", "local", "residual", "layer_scale")
NO_PART = {"name": "none"}


@dataclass(frozen=True, kw_only=True)
class Space:
    """Architectures to search among.

    Args:
        name: how people call it.
        dims: spatial axes, 2 or 3.
        tree: the open genotype: ``stem``, ``down``, ``head`` and ``stages``, with choices in it.
        source: file it was read from, for messages.
        about: one line on what it is for.
        image: the spatial size of the smallest images that it is made for; None where any will do.
        published: for a single architecture of the literature, what is known of it.
    """

    name: str
    dims: int
    tree: dict[str, Any]
    source: str
    about: str = ""
    image: tuple[int, ...] | None = None
    published: Published | None = None

    def express(self, choose: Choose) -> Genotype:
        """Build the genotype that results from asking ``choose(gene, options)`` for every open decision."""
        resolved = resolve(self.tree, "", choose)
        return _expand(resolved, self.dims)

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
        genes = match(self.tree, _contract(genotype, self.tree), "")
        if genes is None or self.decode(genes) != genotype:
            raise SpaceError(self.source, f"architecture {genotype.id} is not in space '{self.name}'.")
        return genes

    def sample(self, rng: random.Random) -> Genotype:
        """Draw one genotype, uniform over the networks of the space: an option weighs as much as lies below it."""

        def choose(gene: str, options: list[Any]) -> Any:
            return rng.choices(options, self._weights[gene])[0]

        return self.express(choose)

    @cached_property
    def _weights(self) -> dict[str, list[int]]:
        return weights_of(self.tree, "")

    @cached_property
    def _genes(self) -> dict[str, list[Any]]:
        return dict(genes_of(self.tree, ""))

    def size(self) -> int:
        """How many different architectures the space holds, exactly."""
        return count_of(self.tree)

    def genes(self) -> dict[str, list[Any]]:
        """Every gene of the space with its options, conditional ones included."""
        return {gene: list(options) for gene, options in self._genes.items()}

    def fingerprint(self) -> str:
        """A hash of all that decides which networks there are; names and remarks do not count."""
        return hashlib.sha256(repr(sorted(self._flat().items())).encode()).hexdigest()[:16]

    def differences(self, before: Space) -> list[str]:
        """In which genes, options and fixed values this space is not what it was ``before``, in words."""
        now, was = self._flat(), before._flat()
        return [
            f"{path} is {now.get(path, 'gone')} (was {was.get(path, 'not there')})"
            for path in dict.fromkeys((*was, *now))
            if now.get(path) != was.get(path)
        ]

    def _flat(self) -> dict[str, str]:
        return dict(flat({"dims": self.dims, **self.tree}, ""))

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

    def repair(self, genotype: Genotype, violation: Callable[[Genotype], float], rng: random.Random) -> Genotype | None:
        """A genotype near ``genotype`` with ``violation(g) <= 0``, by the fewest single-gene steps a greedy walk finds.

        Each step takes a random feasible neighbour if there is one, else the neighbour with the least violation.
        None if the walk ends in a place where no neighbour is better.
        """
        current = violation(genotype)
        while current > 0:
            scored = [(violation(neighbour), neighbour) for neighbour in self.neighbours(genotype)]
            feasible = [neighbour for value, neighbour in scored if value <= 0]
            if feasible:
                return rng.choice(feasible)
            best = min(scored, key=lambda pair: pair[0], default=(current, genotype))
            if best[0] >= current:
                return None
            current, genotype = best
        return genotype

    def minimise(self, value: Callable[[Genotype], float], start: Genotype | None = None) -> Genotype:
        """A genotype of which no single-gene change has a smaller ``value``: the smallest, where genes add up.

        Args:
            value: to be made small.
            start: where to begin; the nearer to the end, the fewer values are asked for.  None for :meth:`first`.
        """
        best = start or self.first()
        least = value(best)
        while True:
            candidate = min(self.neighbours(best), key=value, default=best)
            if value(candidate) >= least:
                return best
            best, least = candidate, value(candidate)

    def first(self) -> Genotype:
        """The genotype whose every gene takes its first option."""
        return self._with({})

    def with_option(self, gene: str, option: Any, given: Mapping[str, Any] | None = None) -> Genotype:
        """A genotype in which ``gene`` exists and has this option; others are as ``given``, or take their first one."""
        genes: Genes = {**(given or {}), gene: option}
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


def _expand(tree: dict[str, Any], dims: int) -> Genotype:
    """The genotype of a resolved tree: stages that say depth and a cycle of blocks become all their blocks."""
    stages = []
    for stage in tree["stages"]:
        shared = {key: stage[key] for key in BLOCK_KEYS if key in stage}
        cycle = [_block({**shared, **entry}) for entry in stage["cycle"]]
        blocks = tuple(cycle[i % len(cycle)] for i in range(stage["depth"]))
        stages.append(Stage(stage["dim"], blocks, None if stage["down"] is None else Part.read(stage["down"])))
    return Genotype(dims, Part.read(tree["stem"]), tuple(stages), Part.read(tree["head"]))


def _block(data: dict[str, Any]) -> Block:
    parts = {role: Part.read(data[role]) for role in ("mixer", "channel")}
    parts |= {role: Part.read(data[role]) for role in ("position", "local") if data[role] != NO_PART}
    scale = data["layer_scale"]
    return Block(residual=data["residual"], layer_scale=None if scale is None else float(scale), **parts)


def _contract(genotype: Genotype, tree: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`_expand`, for matching: cycles as long as the tree's."""
    data = genotype.to_data()
    stages = []
    for stage, node in zip(data["stages"], tree["stages"], strict=False):
        blocks = [{"position": NO_PART, "local": NO_PART, **block} for block in stage["blocks"]]
        first = blocks[0] if blocks else dict.fromkeys(BLOCK_KEYS)
        shared = {key: first[key] for key in BLOCK_KEYS if key in node}
        cycle = [{key: block[key] for key in own} for own, block in zip(node["cycle"], blocks, strict=False)]
        entry = {"dim": stage["dim"], "depth": len(blocks), "down": stage["down"]}
        stages.append({**entry, **shared, "cycle": cycle})
    return {"stem": data["stem"], "stages": stages, "head": data["head"]}
