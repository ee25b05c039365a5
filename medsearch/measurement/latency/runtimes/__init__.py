"""Runtimes that networks are timed in, one file each."""
