"""Readers, leak-free splits, fingerprints and checks of data sets; arrays are numpy, nothing here knows a network."""

from medsearch.data.check import Finding, check
from medsearch.data.dataset import TASKS, Dataset, Split
from medsearch.data.load import load

__all__ = ["TASKS", "Dataset", "Finding", "Split", "check", "load"]
