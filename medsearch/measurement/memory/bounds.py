"""How much an operator may take inside itself at most: for one that cannot be run, from its shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from medsearch.measurement.memory.operators import Like, Operator

LANES = 16
"""Channels are padded to a multiple of it where maps are copied in blocks: the widest register holds so many."""
BLOCK = 64
"""The same for both sides of filters: AMX takes them in tiles of so many."""
SCRATCH = 2**16
"""Bytes that each thread may have for buffers that do not grow with the tensors."""


def most(operator: Operator, results: Sequence[Like]) -> int:
    """Bytes that ``operator`` has at once at most, its results included.

    Counted are two copies of every operand and result in 32 bits with padded channels, because libraries reorder what
    they are given and what they return, and cast what is in 16 bits; the columns of a convolution that is made a matrix
    product, and each thread's sum of the filters' gradients; the products of queries and keys.

    Of 8,000 operators in training steps of 60 networks none took more, with AVX2, AVX-512 and its bf16 instructions
    alike.  In the median the bound is 13 to 19 times what is measured, 7 times where that is more than 100 kB: for the
    few that cannot be run, and no prediction.
    """
    copies = 2 * sum(map(_padded, (*operator.tensors, *results)))
    total = copies + operator.threads * SCRATCH
    if "convolution" in operator.name:
        total += _columns(operator, results) + _filters(operator)
    if "scaled_dot_product" in operator.name:
        total += _products(operator)
    return total


def _padded(like: Like) -> int:
    """Bytes in 32 bits or more, with the second axis, of a matrix the first too, padded to full registers."""
    sides = list(like.shape)
    for axis in {1: (0,), 2: (0, 1)}.get(len(sides), (1,) if sides else ()):
        sides[axis] = _up(sides[axis], LANES)
    return max(4, like.dtype.itemsize) * prod(sides)


def _columns(operator: Operator, results: Sequence[Like]) -> int:
    """Every window of the input as a column of numbers, twice: where no faster way knows the type, of all groups."""
    maps = operator.tensors[:2] if "backward" in operator.name else (results[0], operator.tensors[0])
    weight = _weight(operator)
    positions = min(prod(like.shape[2:]) for like in maps)
    images, channels = max(operator.threads, maps[0].shape[0]), weight.shape[1] * _groups(operator)
    return 2 * weight.dtype.itemsize * images * channels * prod(weight.shape[2:]) * positions


def _filters(operator: Operator) -> int:
    """The filters in blocks of each group's channels, twice, and twice more for every thread."""
    groups = _groups(operator)
    outputs, inputs, *window = _weight(operator).shape
    sides = (_up(side, BLOCK if side > LANES else LANES) for side in (outputs // groups, inputs))
    return 2 * 4 * (1 + operator.threads) * groups * prod(sides) * prod(window)


def _groups(operator: Operator) -> int:
    return int(operator.args[-2 if "backward" in operator.name else -1])


def _weight(operator: Operator) -> Like:
    return operator.tensors[2 if "backward" in operator.name else 1]


def _products(operator: Operator) -> int:
    """The products of queries and keys of every head and, beside them, of every thread; four times."""
    first = 1 if "backward" in operator.name else 0
    queries, keys = operator.tensors[first : first + 2]
    *heads, number, _ = queries.shape
    return 4 * 4 * (prod(heads) + operator.threads) * number * keys.shape[-2]


def _up(number: int, to: int) -> int:
    return -(-number // to) * to
