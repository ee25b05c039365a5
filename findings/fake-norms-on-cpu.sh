#!/usr/bin/env bash
# torch 2.13.0 (CPU): fake tensors give the norms of a mixed-precision step other types and strides than the real ones.
#
# Guess: FakeTensorMode says of every operator what the real one returns, but for the contents.
# Seen (x86-64 Linux, Python 3.11): for a channels-last bf16 map with fp32 parameters, as autocast trains it,
#   native_layer_norm, native_batch_norm and native_group_norm really keep mean and deviation in float32, the fake ones
#   in bfloat16; and for a contiguous incoming gradient the real batch-norm backward lays its result out as the *input*
#   is (channels last), the fake one as the *gradient* is (contiguous).
# Who meets it: whoever predicts the memory of a training step, or its layouts, by tracing it without a device.
# Exits with 1 if a norm behaves otherwise than stated.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

aten = torch.ops.aten
maps = torch.ones(2, 8, 4, 4, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
ones = torch.ones(8)
lines = torch.ones(2, 4, 8, dtype=torch.bfloat16)
batch = (maps, ones, ones, ones, ones, True, 0.1, 1e-5)
statistics = aten.native_batch_norm(*batch)[1:]
gradient = torch.ones(2, 8, 4, 4, dtype=torch.bfloat16)
calls = {
    "native_layer_norm": (lines, [8], ones, ones, 1e-5),
    "native_batch_norm": batch,
    "native_group_norm": (maps.contiguous(), ones, ones, 2, 8, 16, 2, 1e-5),
    "native_batch_norm_backward": (gradient, maps, ones, ones, ones, *statistics, True, 1e-5, [True, True, True]),
}
seen = {}
for name, args in calls.items():
    func = getattr(aten, name).default
    real = [(x.stride(), x.dtype) for x in func(*args)]
    with FakeTensorMode() as mode:
        fake_args = [mode.from_tensor(x) if isinstance(x, torch.Tensor) else x for x in args]
        fake = [(x.stride(), x.dtype) for x in func(*fake_args)]
    seen[name] = [(r, f) for r, f in zip(real, fake) if r != f]
    for r, f in seen[name]:
        print(f"{name}: real {r[0]} {r[1]}, fake {f[0]} {f[1]}")
as_stated = all(
    [r[1] for r, _ in seen[name]] == [torch.float32] * 2 and [f[1] for _, f in seen[name]] == [torch.bfloat16] * 2
    for name in ("native_layer_norm", "native_batch_norm", "native_group_norm")
)
first = seen["native_batch_norm_backward"][:1]
as_stated &= bool(first) and first[0][0][0] == (128, 1, 32, 8) and first[0][1][0] == (128, 16, 4, 1)
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
