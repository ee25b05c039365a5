"""Gathering sources: everything that is needed comes along, once, in an order that runs, and no two things mix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medsearch.backbones.network import Denoiser
from medsearch.blocks import CHANNELS, DOWNSAMPLES, HEADS, MIXERS, STEMS
from medsearch.core.errors import RefusedError
from medsearch.exporters.facts import run_file
from medsearch.exporters.sources import Import, Sources, gather, import_lines

PARTS = [registry[name] for registry in (MIXERS, CHANNELS, STEMS, DOWNSAMPLES, HEADS) for name in registry]

ONE = '''"""The first file."""
from math import sqrt

# As large as it gets.
_LIMIT = 4
_STEP = 1


def _scale(value):
    return sqrt(value) + _STEP


class One:
    """Uses its own ``_scale``."""

    def value(self):
        return min(_scale(9), _LIMIT)
'''
TWO = '''"""The second file."""
import math as m
from functools import cache

_LIMIT = 4
_STEP = 10
_UNUSED = 3


@cache
def _scale(value, *, step=_STEP):
    return m.sqrt(value) * step


def build():
    return [_scale(step) for step in (4, 9)]


class Base:
    pass


class Two(Base):
    def value(self):
        return max(_scale(9), _LIMIT), build()
'''


def joined(sources: Sources) -> str:
    return "\n\n\n".join(section.text for section in sources.sections)


def run(sources: Sources) -> dict[str, Any]:
    text = "\n".join(["from __future__ import annotations", *import_lines(sources.imports), joined(sources)])
    return run_file(compile(text, "gathered.py", "exec", dont_inherit=True))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("first_file", "second_file", "third_file"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "first_file.py").write_text(ONE)
    (tmp_path / "second_file.py").write_text(TWO)
    return tmp_path


@pytest.mark.parametrize("part", [*PARTS, Denoiser], ids=lambda part: part.__name__)
def test_every_part_can_be_lifted_out_of_medsearch(part: type) -> None:
    gathered = run(gather([part]))
    assert gathered[part.__name__].__doc__ == part.__doc__
    assert gathered[part.__name__] is not part


def test_all_parts_together_fit_into_one_file() -> None:
    gathered = run(gather([*PARTS, Denoiser], reserved=["build", "load", "self_test"]))
    assert {part.__name__ for part in PARTS} <= set(gathered)


def test_equal_names_of_different_things_are_told_apart(files: Path) -> None:
    import first_file  # type: ignore[import-not-found]
    import second_file  # type: ignore[import-not-found]

    gathered = run(gather([first_file.One, second_file.Two], reserved=["build"]))
    assert gathered["One"]().value() == first_file.One().value() == 4
    assert gathered["Two"]().value() == second_file.Two().value() == (30, [20, 30])
    assert "build" not in gathered and "build_of_second_file" in gathered
    assert "_scale_of_second_file" in gathered


def test_sources_keep_comments_and_leave_out_what_is_not_used(files: Path) -> None:
    import first_file
    import second_file

    sources = gather([first_file.One, second_file.Two])
    text = joined(sources)
    assert "# As large as it gets.\n_LIMIT = 4" in text and text.count("_LIMIT = 4") == 1
    assert "_UNUSED" not in text and "@cache\ndef" in text
    assert [section.doc for section in sources.sections] == ["The first file.", "The second file."]
    assert import_lines(sources.imports) == ["import math as m", "from functools import cache", "from math import sqrt"]


@pytest.mark.parametrize("part", [*MIXERS.values(), *CHANNELS.values()], ids=lambda part: part.__name__)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_written_part_computes_the_same(part: type, dims: int) -> None:
    original, x = part(8, dims=dims).eval(), torch.rand(1, 8, *(6, 5, 7)[:dims])
    written = run(gather([part]))[part.__name__](8, dims=dims).eval()
    written.load_state_dict(original.state_dict())
    assert torch.equal(written(x), original(x))


def test_a_part_that_needs_another_library_is_refused(files: Path) -> None:
    (files / "third_file.py").write_text("import numpy as np\n\n\nclass Three:\n    size = np.prod([2, 3])\n")
    import third_file  # type: ignore[import-not-found]

    with pytest.raises(RefusedError, match="third_file: imports numpy"):
        gather([third_file.Three])


def test_imports_are_merged_and_torch_comes_last() -> None:
    found = [
        Import(module="torch", name="nn", alias="nn"),
        Import(module="torch", name="Tensor", alias="Tensor"),
        Import(module="torch.nn.functional", name=None, alias="F"),
        Import(module="math", name="prod", alias="product"),
        Import(module="math", name=None, alias="math"),
    ]
    assert import_lines(found) == [
        "import math",
        "from math import prod as product",
        "",
        "import torch.nn.functional as F",
        "from torch import Tensor, nn",
    ]
