"""The first trials of a search: one plain network per mixer, and the thesis that MLPs belong early and attention late.

A few trials decide how a short search goes.  Initial designs show every mixer family once, before the strategy starts
to learn, so a short search can still say what each family is worth on this data.  They are narrow and shallow, because
of networks that train for the same time the small ones have seen the images most often; the first one is tried at
middling width and depth too, so that it shows early where there is time for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medsearch.spaces import Genotype, Space

SIZES = ("dim", "depth")
"""The genes of which a small network has the least option; all others are in the middle."""


def initial_designs(space: Space) -> Iterator[Genotype]:
    """Small genotypes with one mixer in all stages, then MLP to attention by stage; the first one larger too."""
    seen: set[Genotype] = set()
    for index, fixed in enumerate(_mixers(space)):
        for small in (True, False) if index == 0 else (True,):
            genotype = _design(space, fixed, small=small)
            if genotype not in seen:
                seen.add(genotype)
                yield genotype


def middle(space: Space) -> Genotype:
    """The first mixer in all stages, at middling width and depth: what stands for the networks of the space."""
    return next((_design(space, fixed, small=False) for fixed in _mixers(space)), space.first())


def _design(space: Space, fixed: Mapping[str, Any], *, small: bool) -> Genotype:
    return space.express(lambda gene, found: _option(gene, found, fixed, small=small))


def _mixers(space: Space) -> list[dict[str, Any]]:
    """Which mixer each stage has, by gene, for every initial design."""
    options = space.genes()
    genes = [gene for gene in options if gene.rsplit(".", 1)[-1] == "mixer"]
    labels = list(dict.fromkeys(label for gene in genes for label in options[gene]))
    wanted: list[dict[str, Any]] = [dict.fromkeys(genes, label) for label in labels]
    wanted[1:1] = _by_stage(genes, options)
    return wanted


def _by_stage(genes: list[str], options: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """MLP first, convolution in the middle, attention last - where the space offers all three."""
    if len(genes) < 2:
        return []
    kinds = ["gmlp", *["conv"] * (len(genes) - 2), "attention"]
    found = {}
    for gene, kind in zip(genes, kinds, strict=True):
        label = next((label for label in options[gene] if kind in str(label)), None)
        if label is None:
            return []
        found[gene] = label
    return [found]


def _option(gene: str, options: list[Any], fixed: Mapping[str, Any], *, small: bool) -> Any:
    if fixed.get(gene) in options:
        return fixed[gene]
    if small and gene.rsplit(".", 1)[-1] in SIZES:
        return min(options)
    return options[(len(options) - 1) // 2]
