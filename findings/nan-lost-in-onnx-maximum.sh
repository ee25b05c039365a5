#!/usr/bin/env bash
# onnxruntime 1.32.0 (CPU): a NaN survives a maximum in one place and is lost in all others; torch keeps it everywhere.
#
# Guess: a NaN in a map comes out of max pooling as NaN, as it does in torch, so that an image with a bad voxel gives an
#   answer that shows it.
# Seen (x86-64 Linux): of a row of 16 numbers GlobalMaxPool gives NaN only when it stands last, ReduceMax only when it
#   stands first, and a 2x2 MaxPool on a 4x4 map only at the last place of the window; else the largest of the numbers
#   beside it.  torch gives NaN at every place of all three.
# Who meets it: whoever has NaN in images (scanners' and atlases' background, divisions by a mask) and trusts that an exported
#   network with a maximum in it says so.  Check images before, not outputs after.
# Exits with 1 if a NaN is kept or lost elsewhere.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch.nn import functional as F


def session(node, shape):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides) for name, sides in (("x", shape), ("y", None))]
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


row, square = (1, 1, 1, 16), (1, 1, 4, 4)
pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
cases = {
    "GlobalMaxPool": (row, helper.make_node("GlobalMaxPool", ["x"], ["y"]), lambda x: F.adaptive_max_pool2d(x, 1), [15]),
    "ReduceMax": (row, helper.make_node("ReduceMax", ["x"], ["y"]), torch.amax, [0]),
    "MaxPool": (square, pool, lambda x: F.max_pool2d(x, 2), [5, 7, 13, 15]),
}
as_stated = True
for name, (shape, node, same_in_torch, stated) in cases.items():
    opened, kept, kept_by_torch = session(node, shape), [], 0
    for place in range(16):
        x = np.zeros(shape, np.float32)
        x.flat[place] = np.nan
        if np.isnan(opened.run(None, {"x": x})[0]).any():
            kept.append(place)
        kept_by_torch += bool(same_in_torch(torch.from_numpy(x)).isnan().any())
    print(f"{name}: NaN kept from places {kept} of 16, by torch from {kept_by_torch}")
    as_stated &= kept == stated and kept_by_torch == 16
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
