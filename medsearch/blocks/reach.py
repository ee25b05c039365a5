"""How far a part looks, said by the part itself, so that a test can hold it to its word."""

from __future__ import annotations

from typing import NamedTuple


class Reach(NamedTuple):
    """No output depends on an input more than ``positions`` away along any axis.

    Away from the borders, moving the input by a multiple of ``step`` positions moves the output by as many.
    """

    positions: int
    step: int = 1
