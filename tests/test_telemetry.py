"""Nothing leaves the machine: onnxruntime is kept from leaving an id and a store of events in the user's cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# where one of these is set, onnxruntime 1.32 leaves nothing by itself
AUTOMATION = "CI TF_BUILD GITHUB_ACTIONS GITLAB_CI CIRCLECI TRAVIS JENKINS_URL BUILDKITE APPVEYOR TEAMCITY_VERSION"
QUIET = {"ORT_DISABLE_TELEMETRY", "CODEBUILD_BUILD_ID", *AUTOMATION.split()}
RUN = """
import numpy, onnx, onnxruntime
from onnx import TensorProto, helper
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
session.run(None, {"x": numpy.ones(1, numpy.float32)})
"""
IN_A_CHILD = """
import sys
from medsearch.core.children import Children
if __name__ == "__main__":
    with Children(1) as children:
        children.call(exec, sys.argv[1], {})
"""


def left_behind(cache: Path, *command: str) -> list[str]:
    """What a Python program leaves in the user's cache folder."""
    environment = {key: value for key, value in os.environ.items() if key not in QUIET}
    environment |= {"XDG_CACHE_HOME": str(cache), "HOME": str(cache), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True)
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "module", ["medsearch", "medsearch.cli", "medsearch.measurement.latency.timing", "medsearch.exporters.onnx"]
)
def test_a_program_that_uses_medsearch_leaves_nothing(tmp_path: Path, module: str) -> None:
    assert left_behind(tmp_path, "-c", f"import {module}\n{RUN}") == []


def test_nor_does_a_child_of_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(IN_A_CHILD)
    cache = tmp_path / "cache"
    assert left_behind(cache, str(tmp_path / "program.py"), RUN) == []


def test_onnxruntime_alone_would(tmp_path: Path) -> None:
    """The control: from version 1.32 on it does, wherever it does not think that it runs unattended."""
    left = left_behind(tmp_path, "-c", RUN)
    if not left:
        pytest.skip("onnxruntime alone leaves nothing on this machine")
    assert any("onnxruntime" in path for path in left)
