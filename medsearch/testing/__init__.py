"""Contracts as functions: what medsearch expects of a part of somebody else, for the tests of that package."""

from __future__ import annotations

from medsearch.testing.targets import check_target

__all__ = ["check_target"]
