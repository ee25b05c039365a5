"""The search spaces and recipes that come with medsearch, found by name from any folder."""

from __future__ import annotations

from pathlib import Path

from medsearch.core.errors import MedsearchError, SpaceError, UsageError, suggest

_PACKAGE = Path(__file__).resolve().parent.parent
_ERRORS: dict[str, type[MedsearchError]] = {"spaces": SpaceError, "recipes": UsageError}


def _shelf(kind: str) -> dict[str, Path]:
    """Every YAML of one kind by file name without ending: beside the package in a checkout, inside it in a wheel."""
    assert kind in _ERRORS, f"there is no library of {kind}"
    shipped = _PACKAGE / "library" / kind
    folder = shipped if shipped.is_dir() else _PACKAGE.parent / kind
    found = folder.rglob("*.yaml") if kind == "spaces" else folder.glob("*.yaml")  # what lies deeper is no search
    return {path.stem: path for path in sorted(found)}


def names(kind: str) -> list[str]:
    """The names that :func:`find` knows for ``kind`` ``"spaces"`` (their ``points/`` included) or ``"recipes"``."""
    return sorted(_shelf(kind))


def find(kind: str, name: str) -> Path:
    """The file behind ``name``: a path if it ends in ``.yaml`` or ``.yml``, else a name such as ``hybrid2d-tiny``."""
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise _ERRORS[kind](name, "there is no such file.", f"Shipped {kind} go by name: {', '.join(names(kind))}.")
        return Path(name)
    shelf = _shelf(kind)
    if name not in shelf:
        remedy = f"{suggest(name, shelf)} A file of your own is given by its path, ending in .yaml."
        raise _ERRORS[kind](kind, f"there is none named '{name}'.", remedy)
    return shelf[name]
