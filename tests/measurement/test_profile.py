"""The device profile: found again on the same device, never believed on another, refused when damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medsearch.core.errors import RunError, WriteError
from medsearch.measurement import device
from medsearch.measurement.device import Profile, cache_folder, describe
from medsearch.measurement.latency.residual import ResidualModel
from medsearch.measurement.latency.table import PartKey, Timing


def timing(key: str, ms: float = 1.0) -> Timing:
    return Timing(part_key=PartKey(key=key, group="g", variant=key, work=10.0), ms=ms)


def keys(profile: Profile) -> set[str]:
    return set(profile.table.timings)


def test_what_was_measured_is_found_again(tmp_path: Path) -> None:
    profile = Profile(threads=1, folder=tmp_path / "deep" / "er")
    profile.table.add(timing("nn.ReLU() @ 3x8x8", 0.25))
    profile.overhead = 0.01
    profile.residuals["tiny"] = ResidualModel(
        constant=0.1, centre=(0.5,), weights=(0.2,), spread=0.03, errors=(0.01, -0.02)
    )
    profile.accuracy["tiny"] = {"networks": 2}
    profile.save()
    again = Profile(threads=1, folder=tmp_path / "deep" / "er")
    assert again.table.timings == profile.table.timings
    assert (again.overhead, again.residuals, again.accuracy) == (0.01, profile.residuals, {"tiny": {"networks": 2}})


def test_nothing_is_written_where_nothing_is_new(tmp_path: Path) -> None:
    Profile(threads=1, folder=tmp_path).save()
    assert list(tmp_path.iterdir()) == []
    profile = Profile(threads=1, folder=tmp_path)
    profile.table.add(timing("x"))
    profile.save()
    profile.path.unlink()
    profile.save()
    assert not profile.path.exists()
    profile.table.add(timing("y"))
    profile.save()
    assert keys(Profile(threads=1, folder=tmp_path)) == {"x", "y"}


def test_a_profile_that_has_no_room_is_named_and_can_live_elsewhere(
    disk: Path, fill: Callable[[], None], tmp_path: Path
) -> None:
    cached = Profile(threads=1, folder=disk)
    cached.table.add(timing("x"))
    cached.save()
    fill()
    for number in range(100):
        cached.table.add(timing(f"y{number}"))
    with pytest.raises(WriteError, match=r"disk/profile-\w+.json: cannot be written: No space left on device"):
        cached.save()
    cached.move(tmp_path / "run" / "profile.json")
    cached.save()
    assert keys(Profile(threads=1, folder=disk)) == {"x"}

    again = Profile(threads=1, folder=disk)
    again.move(tmp_path / "run" / "profile.json")
    assert keys(again) == keys(cached) and len(keys(again)) == 101
    again.table.add(timing("z"))
    again.save()
    assert "z" in keys(Profile(threads=1, file=tmp_path / "run" / "profile.json"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_cache_of_somebody_else_is_empty_and_cannot_be_written(tmp_path: Path) -> None:
    written(tmp_path)
    tmp_path.chmod(0o700)
    os.seteuid(65534)
    try:
        profile = Profile(threads=1, folder=tmp_path)
        assert keys(profile) == set()
        profile.table.add(timing("y"))
        with pytest.raises(WriteError, match=r"profile-\w+.json: cannot be written: Permission denied"):
            profile.save()
    finally:
        os.seteuid(0)


def test_a_profile_of_another_device_is_not_taken_over_but_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = written(tmp_path)
    monkeypatch.setattr(device, "describe", lambda *given: {**describe(*given), "cpu": "another one"})
    here = Profile(threads=1, folder=tmp_path)
    here.table.add(timing("mine"))
    here.move(there.path)
    assert keys(here) == {"mine"}
    here.save()
    assert keys(Profile(threads=1, file=there.path)) == {"mine"}


def test_other_threads_have_a_profile_of_their_own(tmp_path: Path) -> None:
    one = Profile(threads=1, folder=tmp_path)
    one.table.add(timing("x"))
    one.save()
    two = Profile(threads=2, folder=tmp_path)
    assert keys(two) == set() and two.path != one.path


def test_a_profile_of_another_device_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Profile(threads=1, folder=tmp_path)
    here.table.add(timing("x"))
    here.save()
    monkeypatch.setattr(device, "describe", lambda *given: {**describe(*given), "cpu": "another one"})
    there = Profile(threads=1, folder=tmp_path)
    assert keys(there) == set() and there.path != here.path
    # Not under the name of this device either, for example when somebody has copied or renamed it.
    here.path.rename(there.path)
    assert keys(Profile(threads=1, folder=tmp_path)) == set()


def written(folder: Path, **changes: Any) -> Profile:
    """A saved profile with one part, in which these values were changed by hand."""
    profile = Profile(threads=1, folder=folder)
    profile.table.add(timing("x"))
    profile.save()
    data = json.loads(profile.path.read_text())
    profile.path.write_text(json.dumps({**data, **changes}))
    return profile


def test_a_profile_of_another_format_or_runtime_is_not_used(tmp_path: Path) -> None:
    described = {**describe(1), "runtime": "onnxruntime 0.1 CPU"}
    for changes in ({"format": 0}, {"device": described}, {"device": None}):
        written(tmp_path, **changes)
        assert keys(Profile(threads=1, folder=tmp_path)) == set()


ROW = {"key": "x", "group": "g", "variant": "x", "work": 10.0, "ms": 1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"timings": None},
        {"timings": [1.0]},
        {"timings": [{**ROW, "ms": "1.0"}]},
        {"timings": [{**ROW, "ms": -1.0}]},
        {"timings": [{**ROW, "ms": float("nan")}]},
        {"timings": [{**ROW, "work": 0.0}]},
        {"overhead_ms": "little"},
        {"accuracy": []},
        {"residuals": {"tiny": {"constant": 0.0}}},
        {"residuals": {"tiny": {"constant": 0.0, "spread": "x", "centre": [], "weights": [], "errors": []}}},
    ],
    ids=str,
)
def test_a_damaged_profile_is_refused_and_says_what_to_do(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path, **changes).path
    with pytest.raises(RunError, match="is damaged") as caught:
        Profile(threads=1, folder=tmp_path)
    assert (caught.value.where, caught.value.remedy) == (str(path), "Delete it, to measure again.")


def test_a_profile_asked_for_by_name_must_be_of_this_device(tmp_path: Path) -> None:
    path = written(tmp_path).path
    assert keys(Profile(threads=1, file=path)) == {"x"}
    with pytest.raises(RunError, match=r"is of .*'threads': 1.*; this is .*'threads': 2"):
        Profile(threads=2, file=path)
    path.write_text("{}")
    with pytest.raises(RunError, match="no device profile of this version"):
        Profile(threads=1, file=path)


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
