"""The process that times: what it answers, and what becomes of it when it is gone."""

from __future__ import annotations

import os
import signal

import onnx
import pytest
from onnx import TensorProto, helper

from medsearch.core.children import ChildDied
from medsearch.core.errors import RunError
from medsearch.measurement.latency import timer
from medsearch.measurement.latency.timer import ratio_alone


def products(count: int) -> bytes:
    """A file of so many matrix products behind each other."""
    shape = [64, 64]
    nodes = [helper.make_node("MatMul", [f"x{i}", f"x{i}"], [f"x{i + 1}"]) for i in range(count)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_twice_the_work_takes_about_twice_as_long() -> None:
    ratio, pace = ratio_alone(products(40), products(20), threads=1, seconds=0.1)
    assert 1.5 < ratio < 2.7
    assert 0.01 < pace < 100


def test_one_process_answers_all_and_it_is_another_one() -> None:
    ratio_alone(products(2), products(1), threads=1, seconds=0.01)
    first = timer._child().pids()
    ratio_alone(products(2), products(1), threads=2, seconds=0.01)
    assert timer._child().pids() == first != [os.getpid()]


def test_a_new_one_is_begun_where_one_is_asked_for() -> None:
    ratio_alone(products(1), products(1), threads=1, seconds=0.01)
    first = timer._child().pids()
    timer.restart()
    ratio_alone(products(1), products(1), threads=1, seconds=0.01)
    assert timer._child().pids() != first


def test_what_the_runtime_refuses_is_an_error_and_the_next_file_is_timed() -> None:
    with pytest.raises(RunError, match="onnxruntime-cpu does not run the file: .*[Pp]rotobuf"):
        ratio_alone(b"no model", products(1), threads=1, seconds=0.01)
    assert ratio_alone(products(1), products(1), threads=1, seconds=0.01)[0] > 0


def test_after_a_kill_the_next_file_gets_a_new_process() -> None:
    ratio_alone(products(1), products(1), threads=1, seconds=0.01)
    os.kill(timer._child().pids()[0], signal.SIGKILL)
    with pytest.raises(ChildDied, match="timing in onnxruntime-cpu: .* SIGKILL"):
        ratio_alone(products(1), products(1), threads=1, seconds=0.01)
    assert ratio_alone(products(1), products(1), threads=1, seconds=0.01)[0] > 0


def test_yardsticks_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose sessions can be looked at."""
    monkeypatch.setattr(timer, "_beside", {})
    asked = timer._asked
    for _ in range(timer.REFERENCE_SESSIONS + 1):
        ratio, pace = timer._session(products(3), products(2), "onnxruntime-cpu", 1, 0.001)
        assert ratio > 0
        assert pace > 0
    (turns,) = timer._beside.values()
    assert len(set(map(id, turns))) == timer.REFERENCE_SESSIONS
    assert timer._asked == asked + timer.REFERENCE_SESSIONS + 1
