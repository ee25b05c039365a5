"""The command line: options to calls of the library; it parses, prints and decides exit codes, nothing else."""

from medsearch.cli.main import main

__all__ = ["main"]
