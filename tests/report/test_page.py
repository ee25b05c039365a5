import subprocess
import sys
from pathlib import Path

import pytest

from medsearch.report.page import write_report

ROOT = Path(__file__).parents[2]


def test_the_page_and_its_pictures_are_written_and_linked(results, tmp_path):
    page = write_report(results, tmp_path / "run")
    assert page == tmp_path / "run" / "report.md"
    assert sorted(path.name for path in page.parent.iterdir()) == ["front.png", "front.svg", "report.md"]
    assert "(front.png)" in page.read_text(encoding="utf-8")


def test_writing_again_changes_nothing(results, tmp_path):
    write_report(results, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_report(results, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_page_that_cannot_be_written_leaves_the_old_one(results, tmp_path, monkeypatch):
    write_report(results, tmp_path)
    old = (tmp_path / "front.png").read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", _fail)
    with pytest.raises(OSError, match="no space"):
        write_report(results | {"name": "other"}, tmp_path)
    assert (tmp_path / "front.png").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.png", "front.svg", "report.md"]


def _fail(figure, path, **settings):
    Path(path).write_bytes(b"half")
    raise OSError("no space left on device")


def test_reports_need_neither_torch_nor_a_window():
    code = (
        "import sys, medsearch.report.page, medsearch.report.terminal, medsearch.report.live;"
        "from medsearch.report.page import write_report; import tempfile;"
        "folder = tempfile.TemporaryDirectory(); write_report({}, folder.name); folder.cleanup();"
        "print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
