"""Token mixers as a reader wants them named: short, by stage, and sorted into convolution, attention and MLP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

KINDS = ("conv", "attention", "MLP", "other")
_WORDS = {"attention": "attention", "mlp": "MLP", "conv": "conv"}


def stages_of(network: Mapping[str, Any]) -> Sequence[str]:
    """The mixers of a network by stage, ``"a+b"`` where one stage has two; empty if unknown."""
    return network.get("mixers") or ()


def short(stages: Sequence[str]) -> str:
    """``conv·conv·window·linear`` for ``["dwconv", "dwconv", "window_attention", "linear_attention"]``."""
    return "·".join("+".join(_short(name) for name in stage.split("+")) for stage in stages) or "–"


def _short(name: str) -> str:
    return name.removesuffix("_attention").removeprefix("region_").replace("dwconv", "conv").replace("_", "-")


def kind(mixer: str, families: Mapping[str, str]) -> str:
    """Which of :data:`KINDS` a mixer is, judged by its family where that is known and by its name otherwise."""
    text = families.get(mixer, mixer)
    return next((kind for word, kind in _WORDS.items() if word in text), "other")


def kinds(stages: Sequence[str], families: Mapping[str, str]) -> tuple[str, ...]:
    """Every kind found in a network, in the order of :data:`KINDS`."""
    found = {kind(name, families) for stage in stages for name in stage.split("+")}
    return tuple(kind for kind in KINDS if kind in found)


def leading(stages: Sequence[str], families: Mapping[str, str]) -> str:
    """The kind that most stages have; of two equal ones, that of the deeper stage."""
    names = [kind(name, families) for stage in reversed(stages) for name in stage.split("+")]
    return Counter(names).most_common(1)[0][0] if names else "other"
