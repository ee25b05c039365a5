"""Readers, leak-free splits, fingerprints and checks of data sets; arrays are numpy, nothing here knows a network."""

from medsearch.data.check import Finding, check
from medsearch.data.dataset import Dataset, Split
from medsearch.data.load import load
from medsearch.data.readers import READERS, Reader

__all__ = ["READERS", "Dataset", "Finding", "Reader", "Split", "check", "load"]
