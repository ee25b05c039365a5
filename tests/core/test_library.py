from pathlib import Path

import pytest

from medsearch.core import library
from medsearch.core.errors import SpaceError, UsageError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A package folder with a space, a point and a recipe beside it."""
    for file in ("spaces/hybrid2d-tiny.yaml", "spaces/points/convnext-tiny.yaml", "recipes/demo.yaml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(f"name: {Path(file).stem}\n")
    monkeypatch.setattr(library, "_PACKAGE", tmp_path / "medsearch")
    return tmp_path


def test_names_are_sorted_and_include_points(checkout):
    assert library.names("spaces") == ["convnext-tiny", "hybrid2d-tiny"]
    assert library.names("recipes") == ["demo"]


def test_finds_by_name_in_the_checkout(checkout):
    assert library.find("spaces", "convnext-tiny") == checkout / "spaces/points/convnext-tiny.yaml"


def test_an_installed_package_uses_its_own_copy(checkout):
    shipped = checkout / "medsearch/library/spaces/wheel-only.yaml"
    shipped.parent.mkdir(parents=True)
    shipped.write_text("name: wheel-only\n")
    assert library.names("spaces") == ["wheel-only"]
    assert library.find("spaces", "wheel-only") == shipped


def test_a_yaml_ending_means_a_path(checkout, tmp_path, monkeypatch):
    mine = tmp_path / "mine.yml"
    mine.write_text("name: mine\n")
    assert library.find("spaces", str(mine)) == mine
    with pytest.raises(SpaceError, match="absent.yaml: there is no such file"):
        library.find("spaces", "absent.yaml")


@pytest.mark.parametrize(("kind", "error"), [("spaces", SpaceError), ("recipes", UsageError)])
def test_an_unknown_name_is_refused_with_what_there_is(checkout, kind, error):
    with pytest.raises(error, match="Known: ") as caught:
        library.find(kind, "nothing-like-it")
    assert caught.value.where == kind
    assert all(name in caught.value.remedy for name in library.names(kind))


def test_a_typing_slip_is_recognised(checkout):
    with pytest.raises(SpaceError, match="Did you mean 'hybrid2d-tiny'"):
        library.find("spaces", "hybird2d-tiny")


@pytest.mark.parametrize("kind", ["spaces", "recipes"])
def test_shipped_names_are_unique_and_found(kind):
    pattern = {"spaces": "**/*.yaml", "recipes": "*.yaml"}[kind]
    files = sorted((Path(__file__).parents[2] / kind).glob(pattern))
    assert library.names(kind) == sorted(file.stem for file in files)
    assert [library.find(kind, file.stem) for file in files] == files
