"""Search spaces and genotypes: pure data, no torch."""

from medsearch.spaces.genotype import Block, Genotype, Part, Stage
from medsearch.spaces.space import Genes, Space, read_space

__all__ = ["Block", "Genes", "Genotype", "Part", "Space", "Stage", "read_space"]
