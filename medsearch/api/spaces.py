"""Search spaces from Python."""

from __future__ import annotations

from fnmatch import fnmatch

from medsearch.core.library import names


def list_spaces(pattern: str = "*") -> list[str]:
    """The names of the shipped spaces and published architectures, such as ``"hybrid2d-tiny"`` and ``"swin-t"``.

    Args:
        pattern: with ``*`` and ``?`` for what may be anything.
    """
    return [name for name in names("spaces") if fnmatch(name, pattern)]
