"""Benchmarks, comparisons with published numbers and reference implementations; only the command line uses them."""
