"""The int8 form against the arithmetic written out in numpy, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from medsearch.compression.int8 import quantizable, weights, with_int8
from medsearch.compression.score import outputs

RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], rank: int, out_rank: int) -> onnx.ModelProto:
    shapes = [[f"{name}{axis}" for axis in range(count)] for name, count in (("i", rank), ("o", out_rank))]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(("image", "output"), shapes, strict=True)
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def conv(bias: bool = True) -> onnx.ModelProto:
    node = helper.make_node("Conv", ["image", "w", "b"][: 2 + bias], ["output"], name="conv", pads=[1] * 4)
    return model([node], {"w": array(8, 16, 3, 3), **({"b": array(8)} if bias else {})}, 4, 4)


def product() -> onnx.ModelProto:
    return model([helper.make_node("MatMul", ["image", "w"], ["output"], name="product")], {"w": array(32, 24)}, 3, 3)


def gemm(transposed: int) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["image", "w", "b"], ["output"], name="gemm", transB=transposed)
    return model([node], {"w": array(24, 32) if transposed else array(32, 24), "b": array(24)}, 2, 2)


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Rounded to 256 levels from ``low`` to ``high``, of which 0 is one."""
    step = (high - low) / 255
    zero = np.round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step


def symmetric(weight: np.ndarray, axis: int) -> np.ndarray:
    """Rounded to 255 levels around 0 for every index of ``axis``."""
    other = tuple(i for i in range(weight.ndim) if i != axis)
    step = np.abs(weight).max(axis=other, keepdims=True) / 127
    return np.round(weight / step) * step


def optimized(data: bytes, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_in_int8_by_hand(bias: bool) -> None:
    """Input in [-2, 3], output in [-30, 30]; products written out in float64."""
    whole = conv(bias)
    image = RNG.uniform(-2, 3, (2, 16, 6, 5)).astype(np.float32)
    ranges = {"image": (-2.0, 3.0), "output": (-30.0, 30.0)}
    seen = outputs(with_int8(whole, ["conv"], ranges), image).numpy()

    x = np.pad(levels(image.astype(float), -2, 3), ((0, 0), (0, 0), (1, 1), (1, 1)))
    w = symmetric(weights(whole)["w"].astype(float), 0)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    expected = np.einsum("bchwij,ocij->bohw", windows, w)
    if bias:
        expected += weights(whole)["b"].reshape(-1, 1, 1)
    step = 60 / 255
    assert np.abs(seen - levels(expected, -30, 30)).max() <= step * 1.01, (
        "at most one level, where rounding ties differ"
    )
    assert (np.abs(seen - levels(expected, -30, 30)) > 1e-4).mean() < 0.02


@pytest.mark.parametrize(
    ("whole", "axis"), [(product(), 1), (gemm(0), 1), (gemm(1), 0)], ids=["product", "gemm", "gemm-t"]
)
def test_a_matrix_product_in_int8_by_hand(whole: onnx.ModelProto, axis: int) -> None:
    image = RNG.uniform(-1, 4, (3, 5, 32) if whole.graph.node[0].op_type == "MatMul" else (5, 32)).astype(np.float32)
    seen = outputs(with_int8(whole, [whole.graph.node[0].name], {"image": (-1.0, 4.0)}), image).numpy()
    w = symmetric(weights(whole)["w"].astype(float), axis)
    expected = levels(image.astype(float), -1, 4) @ (w if axis else w.T)
    if whole.graph.node[0].op_type == "Gemm":
        expected += weights(whole)["b"]
    assert np.allclose(seen, expected, atol=2e-2 * np.abs(expected).max() / 4)


@pytest.mark.parametrize("whole", [conv(), product(), gemm(0), gemm(1)], ids=["conv", "product", "gemm", "gemm-t"])
def test_weights_stored_in_int8_are_float_weights_when_the_file_is_open(whole: onnx.ModelProto, tmp_path: Path) -> None:
    node = whole.graph.node[0]
    data = with_int8(whole, [], {})
    axis = (
        0
        if node.op_type == "Conv" or any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        else 1
    )
    rounded = onnx.ModelProto()
    rounded.CopyFrom(whole)
    rounded.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(symmetric(weights(whole)["w"], axis).astype(np.float32), "w")
    )
    image = array(*{"Conv": (2, 16, 6, 5), "MatMul": (2, 4, 32), "Gemm": (4, 32)}[node.op_type])
    assert np.allclose(outputs(data, image), outputs(rounded.SerializeToString(), image), atol=1e-4)
    assert len(data) < 0.5 * len(whole.SerializeToString())
    assert optimized(data, tmp_path) == optimized(rounded.SerializeToString(), tmp_path), (
        "nothing is left to do at run time"
    )


def test_chosen_nodes_run_in_int8(tmp_path: Path) -> None:
    found = optimized(with_int8(conv(), ["conv"], {"image": (-1, 1), "output": (-1, 1)}), tmp_path)
    assert found["QLinearConv"] == 1
    assert found["Conv"] == 0
    assert optimized(with_int8(product(), ["product"], {"image": (-1, 1)}), tmp_path)["MatMulIntegerToFloat"] == 1


def test_tables_that_are_no_weights_keep_their_small_values_beside_large_ones() -> None:
    """An attention mask of -10 000 beside biases of a few hundredths."""
    table = np.where(RNG.random((32, 32)) < 0.5, np.float32(-1e4), np.float32(0.02) * array(32, 32))
    whole = model([helper.make_node("Add", ["image", "t"], ["output"], name="add")], {"t": table}, 2, 2)
    seen = outputs(with_int8(whole, [], {}), np.zeros((32, 32), np.float32)).numpy()
    assert np.allclose(seen, table, rtol=1e-3)


def test_only_products_with_a_constant_on_the_right_can_be_in_int8() -> None:
    nodes = [
        helper.make_node("MatMul", ["image", "w"], ["a"], name="right"),
        helper.make_node("MatMul", ["w", "a"], ["b"], name="left"),
        helper.make_node("MatMul", ["a", "b"], ["c"], name="attention"),
        helper.make_node("Gemm", ["c", "w", "bias"], ["output"], name="scaled", beta=0.5),
    ]
    assert [node.name for node in quantizable(model(nodes, {"w": array(32, 32), "bias": array(32)}, 2, 2))] == ["right"]
