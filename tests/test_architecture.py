"""Which room may import what, held by reading the source; see docs/architecture.md for the reasons."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medsearch"

# A room imports itself and what stands to its right, less what is forbidden below.
ORDER = [
    *("cli", "testing", "studies", "api", "pipeline", "run", "config", "report", "compression", "nas", "train"),
    *("measurement", "targets", "exporters", "backbones", "data", "tasks", "blocks", "spaces", "core"),
]
FORBIDDEN = {
    "nas": {"backbones", "blocks"},  # it is given an evaluator and never builds a model
    "blocks": {"spaces"},  # a block file stands on its own
    "data": {"blocks", "spaces"},
    "tasks": {"blocks", "spaces"},
}
ALLOWED = {room: {room, *ORDER[ORDER.index(room) + 1 :]} - FORBIDDEN.get(room, set()) for room in ORDER}
ALLOWED |= {"__init__": set(ORDER) - {"cli", "studies"}, "__main__": {"cli"}}

# Every library the package may import, and the rooms that own it.
OUTSIDE_SPACES = set(ORDER) - {"core", "spaces"}
OWNERS = {
    "torch": OUTSIDE_SPACES,
    "numpy": set(ORDER),
    "scipy": OUTSIDE_SPACES,
    "yaml": {"core"},
    "filelock": {"core"},
    "platformdirs": {"measurement"},
    "optuna": {"nas"},
    "onnx": {"exporters", "compression"},
    "onnxruntime": {"targets", "studies"},
    "onnxscript": {"exporters"},
    "rich": {"report", "studies", "pipeline", "cli"},
    "matplotlib": {"report"},
    "monai": {"tasks"},
    "torchmetrics": {"tasks"},
    "nibabel": {"data"},
    "nilearn": {"data"},
    "PIL": {"data"},
}

# Libraries that an extra brings, imported where they are used.
EXTRAS = {"pandas": {"api"}, "IPython": {"report"}}

FILES = sorted(PACKAGE.rglob("*.py"))
TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".html", ".css", ".js", ".txt", ".cfg"}


def room_of(file: Path) -> str:
    """``medsearch/train/loop.py`` is in room ``train``, ``medsearch/cli.py`` is room ``cli``."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path) -> set[str]:
    """Dotted names that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno}: write the import in full"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(file):
    room = room_of(file)
    assert room in ALLOWED, f"{room} is not in the table of rooms"
    for name in imports(file):
        library, *inside = name.split(".")
        if library == "medsearch":
            seen = inside[0] if inside else "__init__"
            assert seen in ALLOWED[room] | {"__version__"}, f"{room} must not import {name}"
        elif library not in sys.stdlib_module_names:
            assert room in (OWNERS | EXTRAS).get(library, set()), f"{room} must not import {library}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_says_what_it_is_for(file):
    source = file.read_text(encoding="utf-8")
    assert not source or ast.get_docstring(ast.parse(source))


def test_the_table_of_libraries_is_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.match(r"[\w-]+", requirement)[0].replace("-", "_") for requirement in project["dependencies"]}
    assert {{"yaml": "pyyaml", "PIL": "pillow"}.get(library, library) for library in OWNERS} == declared


def test_what_extras_bring_is_declared_and_not_needed_to_import_a_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    users = {extra: lines for extra, lines in project["optional-dependencies"].items() if extra != "dev"}
    declared = {re.match(r"[\w-]+", line)[0].lower() for lines in users.values() for line in lines}
    assert {library.lower() for library in EXTRAS} <= declared
    for file in FILES:
        top = ast.parse(file.read_text(encoding="utf-8")).body
        eager = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        assert not eager & set(EXTRAS), f"{file.name} imports an extra when it is imported itself"


def test_core_and_spaces_leave_torch_unloaded():
    modules = ["medsearch", *sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES)]
    pure = [
        name.removesuffix(".__init__") for name in modules if name.startswith(("medsearch.core", "medsearch.spaces"))
    ]
    code = f"import importlib, sys; [importlib.import_module(name) for name in {pure}]; print('torch' in sys.modules)"
    assert run(code).strip() == "False"


@pytest.mark.parametrize("module", ["medsearch", "medsearch.cli"])
def test_starting_up_loads_nothing_heavy_and_is_fast(module):
    if not (PACKAGE / "cli").exists() and module == "medsearch.cli":
        pytest.skip("there is no command line yet")
    code = (
        f"import sys, time, {module}; print(time.process_time(), *{{name.partition('.')[0] for name in sys.modules}})"
    )
    seconds, *loaded = run(code).split()
    assert not {"torch", "numpy", "scipy", "optuna", "onnx", "matplotlib", "monai"} & set(loaded)
    assert min([float(seconds), *(float(run(code).split()[0]) for _ in range(2))]) < 0.5


def test_nothing_is_left_for_later():
    left = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    skipped = {"runs", "build", "dist"}
    hits = []
    for file in sorted(ROOT.rglob("*")):
        parts = file.relative_to(ROOT).parts
        if file.suffix in TEXTS or file.name in {"Makefile", "run"}:
            if (
                parts[0] in skipped
                or any(part.startswith(".") and part != ".ci" for part in parts)
                or not file.is_file()
            ):
                continue
            hits += [f"{'/'.join(parts)}: {match[0]}" for match in left.finditer(file.read_text(encoding="utf-8"))]
    assert hits == []
