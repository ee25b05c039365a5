import json
import math
import os
import signal
import subprocess
import sys

import pytest

from medsearch.core import files
from medsearch.core.errors import DataError, RunError, WriteError


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_make_the_folder_and_leave_nothing_else(tmp_path):
    target = tmp_path / "a" / "b" / "x.txt"
    files.write_text(target, "one\n")
    files.write_text(target, "zwei: ü\n")
    assert target.read_bytes() == "zwei: ü\n".encode()
    assert listing(target.parent) == ["x.txt"]


def test_a_full_disk_is_named_and_keeps_the_old_content(disk, fill):
    files.write_bytes(disk / "x.bin", b"old")
    fill()
    with pytest.raises(WriteError) as refusal:
        files.write_bytes(disk / "x.bin", bytes(10_000))
    assert str(refusal.value) == (
        f"{disk}/x.bin: cannot be written: No space left on device.\n  Free some space there."
    )
    assert (disk / "x.bin").read_bytes() == b"old"
    assert listing(disk) == ["filler", "x.bin"]
    (disk / "filler").unlink()
    files.write_bytes(disk / "x.bin", bytes(10_000))
    assert (disk / "x.bin").read_bytes() == bytes(10_000)


def test_a_place_that_is_none_is_named(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(WriteError, match=r"mine.txt/x: cannot be written: \S+mine.txt is not a folder") as refusal:
        files.write_text(tmp_path / "mine.txt" / "x", "x")
    assert refusal.value.remedy == "Make it writable, or choose another place."
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match="folder: cannot be written: Is a directory"):
        files.write_json(tmp_path / "folder", {})
    with pytest.raises(WriteError, match="x.csv: cannot be written: Not a directory"):
        files.append_row(tmp_path / "mine.txt" / "a" / "x.csv", ["a"], {"a": 1})
    assert listing(tmp_path) == ["folder", "mine.txt"]


def test_a_row_is_whole_or_not_there(disk, fill):
    path = disk / "new" / "rows.csv"
    files.append_row(path, ["a", "b"], {"a": 1, "b": "x" * 100})
    fill()
    with pytest.raises(WriteError, match="rows.csv: cannot be written: No space left on device"):
        files.append_row(path, ["a", "b"], {"a": 2, "b": "y" * 100_000})
    with pytest.raises(WriteError, match="other.csv: cannot be written"):
        files.append_row(disk / "other.csv", ["a"], {"a": 1})
    (disk / "filler").unlink()
    files.append_row(path, ["a", "b"], {"a": 3, "b": "z"})
    files.append_row(disk / "other.csv", ["a"], {"a": 1})
    assert [row["a"] for row in files.read_rows(path)] == ["1", "3"]
    assert files.read_rows(disk / "other.csv") == [{"a": "1"}]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from medsearch.core import files
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write_text(Path(sys.argv[1]) / "models" / "x.json", "half")
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    (tmp_path / ".mine").write_text("mine")
    assert len(listing(tmp_path / "models")) == 1
    files.remove_temporaries(tmp_path)
    assert (listing(tmp_path / "models"), listing(tmp_path)) == ([], [".mine", "models"])


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "x", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_json_is_sorted_and_ends_with_a_newline(tmp_path):
    files.write_json(tmp_path / "x.json", {"b": [1, 2.5], "a": None})
    text = (tmp_path / "x.json").read_text()
    assert text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")
    assert files.read_json(tmp_path / "x.json") == {"a": None, "b": [1, 2.5]} == json.loads(text)


def test_json_refuses_what_other_readers_cannot_read(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "x.json", {"loss": math.nan})
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file"),
        (b'{\n"a": 1,\n', "not valid JSON at line 3, column 1"),
        (b'"\xff"', "not UTF-8 .* byte 1"),
    ],
)
def test_a_bad_json_file_is_named_with_the_place(tmp_path, content, problem):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=f"x.json: .*{problem}"):
        files.read_json(path)
    with pytest.raises(DataError):
        files.read_json(path, error=DataError)
