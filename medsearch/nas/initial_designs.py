"""The first trials of a search: one plain network per mixer, and the thesis that MLPs belong early and attention late.

A few trials decide how a short search goes.  Initial designs show every mixer family once, at middling width and
depth, before the strategy starts to learn, so a short search can still say what each family is worth on this data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from medsearch.spaces import Genotype, Space


def initial_designs(space: Space) -> Iterator[Genotype]:
    """Genotypes with every open value in the middle: one mixer in all stages, then MLP to attention by stage."""
    options = space.genes()
    mixer_genes = [gene for gene in options if gene.rsplit(".", 1)[-1] == "mixer"]
    if not mixer_genes:
        return
    labels = list(dict.fromkeys(label for gene in mixer_genes for label in options[gene]))
    wanted = [dict.fromkeys(mixer_genes, label) for label in labels]
    wanted[1:1] = _by_stage(mixer_genes, options)
    seen: set[Genotype] = set()
    for fixed in wanted:
        genotype = space.express(lambda gene, found, fixed=fixed: _middle(gene, found, fixed))  # type: ignore[misc]
        if genotype not in seen:
            seen.add(genotype)
            yield genotype


def middle(space: Space) -> Genotype:
    """The first of them: what stands for the networks of the space where one must."""
    return next(initial_designs(space), space.first())


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


def _middle(gene: str, options: list[Any], fixed: Mapping[str, Any]) -> Any:
    return fixed[gene] if fixed.get(gene) in options else options[(len(options) - 1) // 2]
