"""The device profile: found again on the same device, never believed on another, refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medsearch.core.errors import RunError
from medsearch.measure import device
from medsearch.measure.device import Profile, cache_folder, describe


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    profile = Profile(threads=1, folder=tmp_path / "deep" / "er")
    profile.parts.update({"nn.ReLU() @ 3x8x8": 0.25, "an empty call": 0.01})
    profile.save()
    assert Profile(threads=1, folder=tmp_path / "deep" / "er").parts == profile.parts


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    Profile(threads=1, folder=tmp_path).save()
    assert list(tmp_path.iterdir()) == []
    profile = Profile(threads=1, folder=tmp_path)
    profile.parts["x"] = 1.0
    profile.save()
    profile.path.unlink()
    profile.save()
    assert not profile.path.exists()
    profile.parts["y"] = 2.0
    profile.save()
    assert Profile(threads=1, folder=tmp_path).parts == {"x": 1.0, "y": 2.0}


def test_other_threads_have_a_profile_of_their_own(tmp_path: Path) -> None:
    one = Profile(threads=1, folder=tmp_path)
    one.parts["x"] = 1.0
    one.save()
    two = Profile(threads=2, folder=tmp_path)
    assert two.parts == {} and two.path != one.path


def test_a_profile_of_another_device_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Profile(threads=1, folder=tmp_path)
    here.parts["x"] = 1.0
    here.save()
    monkeypatch.setattr(device, "describe", lambda threads: {**describe(threads), "cpu": "another one"})
    there = Profile(threads=1, folder=tmp_path)
    assert there.parts == {} and there.path != here.path
    # Not under the name of this device either, for example when somebody has copied or renamed it.
    here.path.rename(there.path)
    assert Profile(threads=1, folder=tmp_path).parts == {}


def written(folder: Path, **changes: Any) -> Profile:
    """A saved profile with one part, in which these values were changed by hand."""
    profile = Profile(threads=1, folder=folder)
    profile.parts["x"] = 1.0
    profile.save()
    data = json.loads(profile.path.read_text())
    profile.path.write_text(json.dumps({**data, **changes}))
    return profile


def test_a_profile_of_another_format_or_runtime_is_not_used(tmp_path: Path) -> None:
    described = {**describe(1), "runtime": "onnxruntime 0.1 CPU"}
    for changes in ({"format": 0}, {"device": described}, {"device": None}):
        written(tmp_path, **changes)
        assert Profile(threads=1, folder=tmp_path).parts == {}


@pytest.mark.parametrize(
    "parts", [None, [1.0], {"x": "1.0"}, {"x": None}, {"x": -1.0}, {"x": float("nan")}, {"x": True}]
)
def test_a_damaged_profile_is_refused_and_says_what_to_do(tmp_path: Path, parts: Any) -> None:
    path = written(tmp_path, parts=parts).path
    with pytest.raises(RunError) as caught:
        Profile(threads=1, folder=tmp_path)
    assert str(caught.value) == (
        f"{path}: is not a list of parts with their milliseconds.\n  Delete it, to measure again."
    )


def test_a_profile_that_is_no_json_is_refused_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path).path
    path.write_text(path.read_text()[:-9])
    with pytest.raises(RunError, match=r"profile-\w{10}.json: is not valid JSON at line \d+"):
        Profile(threads=1, folder=tmp_path)


def test_a_device_is_what_a_latency_depends_on() -> None:
    here = describe(3)
    assert here == describe(3) and set(here) == {"cpu", "cores", "threads", "os", "runtime"}
    assert here["threads"] == 3 and here["runtime"].startswith("onnxruntime ") and here["cpu"]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDSEARCH_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MEDSEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "medsearch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "medsearch"
