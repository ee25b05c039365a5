"""Sessions of ONNX Runtime: what they are given to run on."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medsearch.exporters.onnx import to_onnx_fast
from medsearch.targets.onnx_runtime import feeds, session


def test_inputs_are_one_raw_image_of_the_files_own_shape_or_as_told() -> None:
    opened = session(to_onnx_fast(nn.Conv2d(1, 8, 3), (torch.zeros(1, 1, 32, 32),)))
    (given,) = feeds(opened, None).values()
    assert given.shape == (1, 1, 32, 32) and given.dtype == np.float32
    assert given.min() >= 0 and 200 < given.max() <= 255
    (given,) = feeds(opened, ((3, 1, 16, 16),)).values()
    assert given.shape == (3, 1, 16, 16)
