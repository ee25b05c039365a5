#!/usr/bin/env bash
# torch 2.13.0, onnxruntime 1.32.0: a query that may look at nothing gets zeros in torch; exported, three other answers.
#
# Guess: attention weights of a query whose keys are all masked are 0/0, so NaN, in torch and after export alike.
# Seen: F.scaled_dot_product_attention gives zeros, whether the mask is of booleans or of 0 and -inf.  torch.onnx.export
#   (opset 20, its default) makes of the boolean mask the mean of *all* values, as if nothing were masked, and of the
#   other one NaN; opset 23, with an Attention node, gives zeros.  Every other query agrees.
# Who meets it: whoever pads sets of tokens, slices or patches to one length and exports the network: a comparison on full
#   samples passes.
# Exits with 1 if one of the six answers differs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check \
  torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
ORT_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - <<'PYTHON'
import logging
import sys
import warnings

import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
torch.manual_seed(0)
names = ["q", "k", "v"]
q, k, v = inputs = tuple(torch.randn(1, 2, 4, 8) for _ in names)
allowed = torch.ones(4, 4, dtype=torch.bool).tril()
allowed[1] = False
masks = {"boolean": allowed, "0 and -inf": torch.zeros(4, 4).masked_fill(~allowed, float("-inf"))}


class Attention(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = nn.Buffer(mask)

    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


def by_onnxruntime(model, opset):
    program = torch.onnx.export(model, inputs, dynamo=True, opset_version=opset, input_names=names, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in zip(names, inputs)})[0])


def kind(answer):
    masked = answer[:, :, 1]
    if masked.isnan().all():
        return "NaN"
    if not masked.any():
        return "zeros"
    return "mean of all values" if torch.allclose(masked, v.mean(2), atol=1e-5) else "something else"


seen, others_agree = [], True
for name, mask in masks.items():
    model = Attention(mask).eval()
    with torch.no_grad():
        expected = model(*inputs)
        answers = [expected, by_onnxruntime(model, 20), by_onnxruntime(model, 23)]
    others_agree &= all(torch.allclose(x[:, :, [0, 2, 3]], expected[:, :, [0, 2, 3]], atol=1e-5) for x in answers)
    seen.append([kind(answer) for answer in answers])
    print(f"mask of {name}: torch {seen[-1][0]}, opset 20 {seen[-1][1]}, opset 23 {seen[-1][2]}")
as_stated = others_agree and seen == [["zeros", "mean of all values", "zeros"], ["zeros", "NaN", "zeros"]]
print("as stated" if as_stated else "CHANGED")
sys.exit(0 if as_stated else 1)
PYTHON
