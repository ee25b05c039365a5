"""The public API: lazy, complete, and the same options as the command line."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import medsearch
from medsearch.config import KEYS, SearchConfig


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, medsearch; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "numpy", "optuna", "onnx", "yaml"} & set(loaded)


@pytest.mark.parametrize("name", medsearch.__all__)
def test_everything_it_names_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(medsearch, name)
    assert inspect.getdoc(found)
    assert found.__name__ == name and name in dir(medsearch)


def test_a_name_that_it_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'medsearch' has no attribute 'serch'"):
        _ = medsearch.serch


def test_rooms_do_not_shadow_its_functions() -> None:
    import medsearch.nas.loop
    import medsearch.pipeline.search

    assert all(inspect.isfunction(getattr(medsearch, name)) for name in ("search", "compress", "export", "load"))


def test_a_search_takes_what_its_configuration_has() -> None:
    parameters = inspect.signature(medsearch.search).parameters
    assert set(parameters) == {*KEYS, "recipe", "out", "callbacks"}
    assert all(parameter.default is None for parameter in parameters.values())
    assert [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == ["data"]


def test_values_are_checked_as_on_the_command_line() -> None:
    with pytest.raises(medsearch.MedsearchError, match="search: trials: expected a whole number of at least 1"):
        medsearch.search(trials=0)
    with pytest.raises(medsearch.MedsearchError, match="medsearch.search: time: expected a time, got 'soon'"):
        medsearch.search(time="soon")
    with pytest.raises(medsearch.MedsearchError, match=r"medsearch.search: budget.memry: unknown key 'memry'"):
        medsearch.search(budget={"memry": "1GB"})
    with pytest.raises(medsearch.MedsearchError, match=r"Budget\(memory=...\): expected an amount of memory"):
        medsearch.Budget(memory="much")


def test_quantities_are_text_or_numbers() -> None:
    text = SearchConfig.read({"time": "10m", "budget": {"memory": "1GB", "latency": "20ms"}})
    numbers = SearchConfig.read({"time": 600, "budget": medsearch.Budget(memory=1e9, latency=20.0)})
    assert text == numbers
    assert SearchConfig.from_data(text.to_data()) == text


def test_torchs_profiler_is_quiet_whoever_uses_it() -> None:
    code = "import medsearch, torch\nwith torch.profiler.profile(profile_memory=True): torch.zeros(3) + 1"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")
