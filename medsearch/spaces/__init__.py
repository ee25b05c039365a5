"""Search spaces and genotypes: pure data, no torch."""

from medsearch.spaces.genotype import Block, Genotype, Part, Stage
from medsearch.spaces.published import Published
from medsearch.spaces.read import load_space, read_space
from medsearch.spaces.space import Space
from medsearch.spaces.tree import Genes

__all__ = ["Block", "Genes", "Genotype", "Part", "Published", "Space", "Stage", "load_space", "read_space"]
