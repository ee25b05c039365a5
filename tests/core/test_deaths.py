"""What is remembered of deaths, where, and for whom."""

from __future__ import annotations

from pathlib import Path

from medsearch.core.children import ChildDied
from medsearch.core.deaths import Deaths

FAULT = ChildDied("memory probe", "SIGFPE", "linear.py:134 in forward")
KILL = ChildDied("training", "SIGKILL")


def test_a_fault_is_remembered_for_every_run_of_the_machine_and_a_kill_for_its_own(tmp_path: Path) -> None:
    run, cache = tmp_path / "run" / "deaths.jsonl", tmp_path / "cache" / "deaths.jsonl"
    deaths = Deaths("one", run=run, cache=cache)
    said = str(deaths.record(FAULT, "aten::mm", precision="bf16"))
    assert said == "memory probe: aten::mm in bf16 ended its process: SIGFPE, at linear.py:134 in forward"
    deaths.record(KILL, "network ab", precision="bf16")

    again = Deaths("one", run=run, cache=cache)
    assert again.of_run == deaths.of_run
    other_run = Deaths("one", run=tmp_path / "other.jsonl", cache=cache)
    assert other_run.of_run == []
    for known, kill in ((deaths, 1), (again, 1), (other_run, 0)):
        assert known.of("aten::mm", precision="bf16") == deaths.of_run[0]
        assert known.of("aten::mm", precision="fp32") is None
        assert known.times("aten::mm", precision="bf16") == 1
        assert known.times("network ab", precision="bf16") == kill
    other_machine = Deaths("two", run=run, cache=cache)
    assert other_machine.of("aten::mm", precision="bf16") is None


def test_what_is_no_death_is_passed_over(tmp_path: Path) -> None:
    run = tmp_path / "deaths.jsonl"
    Deaths("one", run=run).record(KILL, "a")
    with run.open("ab") as file:
        file.write(b"\xff\xfe\n[]\n" + run.read_bytes().replace(b'"a"', b"[1]") + b'{"what": "b", "doi')
    assert [death.what for death in Deaths("one", run=run).of_run] == ["a"]


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    deaths = Deaths("one", run=tmp_path / "file" / "deaths.jsonl")
    assert deaths.record(FAULT, "a") == deaths.of("a")


def test_two_deaths_alike_count_as_two_and_one_in_both_files_as_one(tmp_path: Path) -> None:
    run, cache = tmp_path / "run.jsonl", tmp_path / "cache.jsonl"
    deaths = Deaths("one", run=run, cache=cache)
    for death in (KILL, KILL, FAULT):
        deaths.record(death, death.how)
    again = Deaths("one", run=run, cache=cache)
    assert [again.times(name) for name in ("SIGKILL", "SIGFPE")] == [2, 1]
