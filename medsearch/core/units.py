"""Quantities as people write them: ``1GB``, ``20ms``, ``5M``.  GB = 10^9 bytes, GiB = 2^30 bytes."""

from __future__ import annotations

import math
import re

from medsearch.core.errors import BudgetError

_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}
_PREFIXES = {"p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-zA-Z]*)\s*")

_TIMES = re.compile(r"\s*(?=\d+\s*[hm]\s*\d)(?:(\d+)\s*h)?\s*(?:(\d+)\s*m(?:in)?)?\s*(?:(\d+)\s*s)?\s*", re.IGNORECASE)
"""Hours, minutes and seconds, at least two of them: ``1h30m``."""


def _parse(
    text: str, units: dict[str, float] | dict[str, int], what: str, example: str, where: str, *, least: float = 1
) -> float:
    match = _QUANTITY.fullmatch(text)
    number, unit = (float(match[1]), match[2].lower()) if match else (math.nan, "")
    if match is None or unit not in units:
        known = ", ".join(unit for unit in units if unit)
        raise BudgetError(where, f"expected {what}, got '{text}'.", f"Write it like {example}; units: {known}.")
    quantity = number * units[unit]
    if not math.isfinite(quantity) or quantity < least:
        raise BudgetError(where, f"expected {what} above zero, got '{text}'.", f"Write it like {example}.")
    return quantity


def parse_bytes(text: str, *, where: str = "size") -> int:
    """Bytes of ``1GB`` (10^9), ``1GiB`` (2^30), ``512MB``, ``0.5 gb``; BudgetError for anything else."""
    return round(_parse(text, _BYTES, "an amount of memory", "1GB or 512MiB", where))


def parse_seconds(text: str, *, where: str = "time") -> float:
    """Seconds of ``20ms``, ``0.02s``, ``10m``, ``1.5h``, ``1h30m``; BudgetError for anything else."""
    if parts := _TIMES.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in parts.groups())
        if minutes < 60 and seconds < 60 and hours + minutes + seconds > 0:
            return 3600 * hours + 60 * minutes + seconds
    return _parse(text, _SECONDS, "a time", "20ms, 10m or 1h30m", where, least=1e-9)


def parse_count(text: str, *, where: str = "count") -> int:
    """A whole number from ``5M``, ``1.2G``, ``300k`` or ``1000``; BudgetError for anything else."""
    return round(_parse(text, _COUNTS, "a count", "5M or 300k", where))


def parse_si(text: str, unit: str, *, where: str) -> float:
    """A number in ``unit`` that may have a prefix, whose case counts: 0.005 of ``5mJ`` in J; BudgetError otherwise."""
    match = _QUANTITY.fullmatch(text)
    prefix = match[2].removesuffix(unit) if match and match[2].endswith(unit) else None
    if match is None or prefix not in _PREFIXES:
        raise BudgetError(where, f"expected a number of {unit}, got '{text}'.", f"Write it like 5m{unit} or 2k{unit}.")
    quantity = float(match[1]) * _PREFIXES[prefix]
    if not 0 < quantity < math.inf:
        raise BudgetError(where, f"expected a number of {unit} above zero, got '{text}'.", f"Write it like 5m{unit}.")
    return quantity


def format_si(value: float, unit: str) -> str:
    """``5 mJ`` - three digits."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    fitting = [(prefix, size) for prefix, size in _PREFIXES.items() if abs(value) >= 0.9995 * size]
    prefix, size = max(fitting or [("p", 1e-12)], key=lambda entry: entry[1])
    return f"{value / size:.3g} {prefix}{unit}"


def format_bytes(count: float) -> str:
    """``1.25 GB`` - decimal units, three digits."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def format_count(count: float) -> str:
    """``1.25 M`` - three digits."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def format_seconds(seconds: float) -> str:
    """``20 ms``, ``3.2 s``, ``4 min 05 s``."""
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
