"""The process that times: what it answers, and what becomes of it when it, or its parent, is gone."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from medsearch.core.errors import RunError
from medsearch.measure import timer
from medsearch.measure.runtime import DEFAULT
from medsearch.measure.timer import ratio_alone, serve


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
    first = timer._child().pid
    ratio_alone(products(2), products(1), threads=2, seconds=0.01)
    assert timer._child().pid == first != os.getpid()


def test_what_the_runtime_refuses_is_an_error_and_the_next_file_is_timed() -> None:
    with pytest.raises(RunError, match="onnxruntime-cpu does not run the file: .*[Pp]rotobuf"):
        ratio_alone(b"no model", products(1), threads=1, seconds=0.01)
    assert ratio_alone(products(1), products(1), threads=1, seconds=0.01)[0] > 0


def test_after_a_kill_the_next_file_gets_a_new_process() -> None:
    ratio_alone(products(1), products(1), threads=1, seconds=0.01)
    child = timer._child()
    child.send_signal(signal.SIGKILL)
    child.wait()
    with pytest.raises(RunError, match="the process that times networks was killed"):
        ratio_alone(products(1), products(1), threads=1, seconds=0.01)
    assert ratio_alone(products(1), products(1), threads=1, seconds=0.01)[0] > 0


def test_yardsticks_take_turns_and_a_request_is_read_to_its_end() -> None:
    files = [products(3), products(2)]
    head = (
        json.dumps(
            {"runtime": DEFAULT, "plugins": [], "threads": 1, "seconds": 0.001, "sizes": [len(file) for file in files]}
        ).encode()
        + b"\n"
    )
    answers = io.BytesIO()
    serve(io.BytesIO((head + files[0] + files[1]) * (timer.YARDSTICKS + 1)), answers)
    found = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert len(found) == timer.YARDSTICKS + 1
    assert all(set(answer) == {"ratio", "pace"} and answer["ratio"] > 0 for answer in found)


def test_a_killed_parent_leaves_no_process_behind() -> None:
    code = "from medsearch.measure import timer; import time; print(timer._child().pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # ended, and nobody here to bury it
            return
        time.sleep(0.1)
    pytest.fail(f"process {child} is still there")
