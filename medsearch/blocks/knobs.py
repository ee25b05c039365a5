"""What the knobs of parts may be: a check returns the value, or raises a ValueError with part, knob and remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence


def whole_number(part: str, knob: str, value: int, *, least: int = 1) -> int:
    """``value`` itself, refused with the part's and the knob's name unless it is an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{part}: {knob} must be a whole number of at least {least}, got {value!r}; try {least}")
    return value


def yes_or_no(part: str, knob: str, value: bool) -> bool:
    """``value`` itself, refused with the part's and the knob's name unless it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{part}: {knob} must be true or false, got {value!r}; try {str(bool(value)).lower()}")
    return value


def one_of(part: str, knob: str, value: str, known: Sequence[str]) -> str:
    """``value`` itself, refused with the part's and the knob's name unless it is one of the ``known`` words."""
    if value not in known:
        words = ", ".join(repr(word) for word in known)
        raise ValueError(f"{part}: {knob} must be one of {words}, got {value!r}; try {known[0]!r}")
    return value


def per_axis(part: str, knob: str, value: int | str, dims: int, *, least: int = 1) -> tuple[int, ...]:
    """One whole number for every axis: from a number for all of them, or from text like ``"1x2x2"``."""
    if isinstance(value, str):
        numbers = [int(piece) if piece.isdecimal() else None for piece in value.split("x")]
        if len(numbers) != dims or any(number is None or number < least for number in numbers):
            example = "x".join([str(max(least, 2))] * dims)
            raise ValueError(
                f"{part}: {knob} must be {dims} whole numbers of at least {least}, got {value!r}; try '{example}'"
            )
        return tuple(number for number in numbers if number is not None)
    return (whole_number(part, knob, value, least=least),) * dims


def odd_kernel(part: str, kernel: int) -> int:
    """``kernel`` itself, refused with the part's name unless it is odd and positive, so that a map keeps its size."""
    whole_number(part, "kernel", kernel)
    if kernel % 2 == 0:
        raise ValueError(f"{part}: kernel must be odd to keep the size, got {kernel}; try {kernel + 1}")
    return kernel


def odd_kernels(part: str, kernel: int | str, dims: int) -> tuple[int, ...]:
    """One odd and positive edge for every axis: see :func:`per_axis` and :func:`odd_kernel`."""
    return tuple(odd_kernel(part, edge) for edge in per_axis(part, "kernel", kernel, dims))


def hidden_width(part: str, dim: int, ratio: float, hidden: int | None) -> int:
    """The hidden width of a channel mixer: ``hidden`` itself, or ``ratio`` times ``dim`` rounded; at least 1."""
    number = isinstance(ratio, int | float) and math.isfinite(ratio)
    width = (round(dim * ratio) if number else 0) if hidden is None else hidden
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        seen = f"ratio {ratio!r}, hidden {hidden!r}"
        raise ValueError(f"{part}: hidden width must be at least 1, got {seen}; try ratio 2.0")
    return width


HEAD_DIM = 32
"""Width of a head where neither it nor the number of heads is given."""


def head_shape(part: str, dim: int, heads: int | None, head_dim: int | None) -> tuple[int, int]:
    """Heads and their width.

    A width alone gives as many heads as fit in ``dim``, at least one; a number of heads alone divides ``dim`` among
    them; both stay as written.
    """
    if heads is not None and head_dim is None:
        whole_number(part, "heads", heads)
        if dim % heads:
            nearest = min((n for n in range(1, dim + 1) if dim % n == 0), key=lambda n: abs(n - heads))
            raise ValueError(f"{part}: heads must divide the width {dim}, got {heads}; try {nearest}")
        return heads, dim // heads
    head_dim = whole_number(part, "head_dim", HEAD_DIM if head_dim is None else head_dim)
    if heads is None:
        head_dim = min(head_dim, dim)
        return dim // head_dim, head_dim
    return whole_number(part, "heads", heads), head_dim
