import json
import math
import os

import pytest

from medsearch.core import files
from medsearch.core.errors import DataError, RunError


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_make_the_folder_and_leave_nothing_else(tmp_path):
    target = tmp_path / "a" / "b" / "x.txt"
    files.write_text(target, "one\n")
    files.write_text(target, "zwei: ü\n")
    assert target.read_bytes() == "zwei: ü\n".encode()
    assert listing(target.parent) == ["x.txt"]


def test_a_failed_write_keeps_the_old_content(tmp_path):
    target = tmp_path / "x.bin"
    files.write_bytes(target, b"old")
    with pytest.raises(KeyboardInterrupt), files.replacing(target) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    assert listing(tmp_path) == ["x.bin"]


def test_a_reader_sees_the_old_content_until_the_block_ends(tmp_path):
    target = tmp_path / "plot.svg"
    files.write_text(target, "old")
    with files.replacing(target) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".svg")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


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
