"""What the documentation tells people to type can be typed, and every recipe can be cooked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from medsearch.cli.parser import VERBS, parse
from medsearch.cli.verbs.search import asked_for
from medsearch.core.library import find, names
from medsearch.core.units import parse_bytes
from medsearch.data.readers import embedded
from medsearch.spaces import load_space

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fenced(page: Path) -> list[str]:
    """The lines of a page's code blocks, those ending in a backslash joined with the next."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line}")
    for page in PAGES
    for line in dict.fromkeys(fenced(page))
    if line.startswith("medsearch ") and not line.startswith("medsearch -")
]


def test_the_readme_shows_every_verb() -> None:
    shown = {line.split()[1] for line in fenced(ROOT / "README.md") if line.startswith("medsearch ")}
    assert shown == set(VERBS) >= {"search", "compress", "export", "bench", "report", "data", "spaces", "doctor"}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_can_be_typed(line: str) -> None:
    words = shlex.split(line, comments=True)
    verb, options = parse(words[1:])
    assert verb.__name__ == f"medsearch.cli.verbs.{words[1]}"
    if line.startswith("medsearch search"):
        config = asked_for(options)
        assert "--data" not in words or config.data == words[words.index("--data") + 1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_make_is_asked_for_is_in_the_makefile(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    asked = {line.split()[1] for line in fenced(page) if line.startswith("make ")} | set(
        re.findall(r"`make (\w+)`", text)
    )
    there = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert asked <= there
    assert page.name != "README.md" or {"demo", "test"} <= asked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_units_are_what_the_readme_says() -> None:
    assert "GB is 10^9 bytes, GiB is 2^30" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert (parse_bytes("1GB"), parse_bytes("1GiB")) == (10**9, 2**30)


@pytest.mark.parametrize("name", names("recipes"))
def test_a_recipe_can_be_cooked(name: str) -> None:
    config = asked_for(parse(["search", "--recipe", name])[1])
    assert config.time or config.trials
    assert config.data is None or config.data.removeprefix("embedded:") in embedded.known()
    if config.space:
        assert load_space(config.space, task=config.task or "classification").size() > 1
    assert find("recipes", name).read_text(encoding="utf-8").count(f"name: {name}\n") == 1


def test_the_command_line_wins_over_the_recipe() -> None:
    line = ["search", "--recipe", "demo", "--budget-mem", "2GiB", "--seed", "7", "--time", "90s"]
    config = asked_for(parse(line)[1])
    assert (config.budget["memory"], config.seed, config.time) == (2**31, 7, 90.0)
    assert config.data == "brain2d"
