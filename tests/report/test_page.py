import subprocess
import sys
from pathlib import Path

import pytest

from medsearch.core.errors import WriteError
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


def test_a_page_that_has_no_room_is_named_and_leaves_the_old_one(results, disk, fill):
    write_report(results, disk)
    old = {path.name: path.read_bytes() for path in disk.iterdir()}
    fill()
    with pytest.raises(WriteError, match=r"disk/front.png: cannot be written: No space left on device"):
        write_report(results | {"name": "other"}, disk)
    (disk / "filler").unlink()
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == old


def test_reports_need_neither_torch_nor_a_window():
    code = (
        "import sys, medsearch.report.page, medsearch.report.terminal, medsearch.report.live;"
        "from medsearch.report.page import write_report; import tempfile;"
        "folder = tempfile.TemporaryDirectory(); write_report({}, folder.name); folder.cleanup();"
        "print({'torch', 'matplotlib.pyplot'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
