import sys

import pytest

from medsearch.core.errors import SpaceError
from medsearch.core.registry import Registry

PART = """\
from {package} import PARTS

@PARTS.add("{name}")
class Part:
    def __init__(self, dim, *, dims, kernel=7, bias=True):
        pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The name of an importable package with a registry ``PARTS`` and two parts in files of their own."""
    name = "parts_of_a_test"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"from medsearch.core.registry import Registry\nPARTS = Registry('part', '{name}')\n"
    )
    for part in ("wheel", "axle"):
        (folder / f"{part}.py").write_text(PART.format(package=name, name=part))
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


def test_parts_are_found_on_first_look_up_and_not_before(package):
    parts = __import__(package).PARTS
    assert f"{package}.wheel" not in sys.modules
    assert list(parts) == ["axle", "wheel"]
    assert (len(parts), parts["wheel"].__module__, "tyre" in parts) == (2, f"{package}.wheel", False)


def test_knobs_are_the_keywords_with_a_default(package):
    assert __import__(package).PARTS.knobs("axle") == {"kernel": 7, "bias": True}


def test_an_unknown_part_is_refused_with_a_suggestion(package):
    with pytest.raises(SpaceError, match=r"tiny.yaml: stem: unknown part 'whel'\.\n  Did you mean 'wheel'"):
        __import__(package).PARTS.find("whel", where="tiny.yaml: stem")
    assert __import__(package).PARTS.find("wheel", where="").__name__ == "Part"


def test_two_parts_under_one_name_are_refused():
    parts = Registry("part", "unused")
    parts.add("a")(int)
    with pytest.raises(SpaceError, match="part 'a': is defined twice: in builtins and in builtins"):
        parts.add("a")(str)
