"""The int8 form of an ONNX file: nodes that compute in 8 bits, and weights that are stored in 8 bits.

A node in 8 bits reads unsigned activations and signed weights with one scale per output channel, behind pairs of
QuantizeLinear and DequantizeLinear nodes that ONNX Runtime fuses with it.  The weights of all other nodes are stored in
8 bits as well and multiplied by their scales by a Cast and a Mul, which ONNX Runtime computes once, when the file is
loaded (a DequantizeLinear it would compute at every run).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Range = tuple[float, float]

LARGE = 512
"""Entries from which on a tensor is stored in fewer bits."""


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every tensor that comes with the file, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def quantizable(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that can compute in 8 bits: convolutions and products with a constant matrix on the right."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for node in model.graph.node:
        plain = {"alpha": 1.0, "beta": 1.0} | _attributes(node)
        product = node.op_type in ("MatMul", "Gemm") and ranks.get(node.input[1]) == 2
        if (product or (node.op_type == "Conv" and node.input[1] in ranks)) and plain["alpha"] == plain["beta"] == 1:
            found.append(node)
    return [node for node in found if node.input[0] not in ranks]


def with_int8(model: onnx.ModelProto, chosen: Collection[str], ranges: Mapping[str, Range]) -> bytes:
    """The file with the ``chosen`` nodes (by name) in 8 bits, and all large weights stored in 8 bits.

    Args:
        ranges: lowest and highest value of what each chosen node reads, and of what each chosen convolution gives.
    """
    writer = _Writer(model, ranges)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += writer.in_int8(node) if node.name in chosen else [node]
    nodes = [*writer.restored(nodes), *nodes]
    used = {name for node in nodes for name in node.input}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for field in (result.graph.node, result.graph.initializer, result.graph.value_info):
        del field[:]
    result.graph.node.extend(nodes)
    result.graph.initializer.extend(numpy_helper.from_array(a, k) for k, a in writer.constants.items() if k in used)
    return result.SerializeToString()


class _Writer:
    """Rewrites nodes, and collects the constants that they need."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, Range]) -> None:
        self.constants = weights(model)
        self.ranges = ranges
        self.rounded: dict[str, str] = {}

    def in_int8(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """The node between its conversions."""
        new = onnx.NodeProto()
        new.CopyFrom(node)
        source, target = node.input[0], node.output[0]
        if source not in self.rounded:
            self.rounded[source] = f"{source}_rounded"
            yield from self._round(source, self.rounded[source], self.ranges[source])
        new.input[0] = self.rounded[source]
        new.input[1] = f"{node.name}_weight"
        yield self._weight(node, new.input[1])
        if len(node.input) > 2 and node.input[2]:
            new.input[2] = f"{node.name}_bias"
            yield self._bias(node, new.input[2])
        if node.op_type == "Conv":
            new.output[0] = f"{target}_exact"
            self.rounded[target] = target
        yield new
        if node.op_type == "Conv":
            yield from self._round(new.output[0], target, self.ranges[target])

    def restored(self, nodes: Collection[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
        """Put the large tensors that nodes in float read away in fewer bits; the nodes that bring them back."""
        readers = {name: (node, place) for node in nodes for place, name in enumerate(node.input)}
        for name, array in list(self.constants.items()):
            if name not in readers or array.dtype != np.float32 or array.size < LARGE:
                continue
            node, place = readers[name]
            if node.op_type in ("Conv", "Gemm", "MatMul") and place < 2:
                values, scale = _symmetric(array, summed_axes(node, place, array.ndim))
                self.constants |= {f"{name}_stored": values, f"{name}_scale": scale}
                yield helper.make_node("Cast", [f"{name}_stored"], [f"{name}_whole"], to=onnx.TensorProto.FLOAT)
                yield helper.make_node("Mul", [f"{name}_whole", f"{name}_scale"], [name])
            elif np.abs(array).max() < np.finfo(np.float16).max:
                self.constants[f"{name}_stored"] = array.astype(np.float16)
                yield helper.make_node("Cast", [f"{name}_stored"], [name], to=onnx.TensorProto.FLOAT)
            else:
                continue
            del self.constants[name]

    def _round(self, source: str, target: str, limits: Range) -> Iterator[onnx.NodeProto]:
        """``target`` is ``source`` rounded to 256 levels over its range, of which 0 is one."""
        low, high = min(limits[0], 0.0), max(limits[1], 0.0)
        scale = np.float32(max((high - low) / 255, 1e-8))
        levels, *rest = self._named(target, scale, np.uint8(np.clip(round(-low / scale), 0, 255)))
        yield helper.make_node("QuantizeLinear", [source, *rest], [levels], name=f"{target}_quantize")
        yield helper.make_node("DequantizeLinear", [levels, *rest], [target], name=f"{target}_dequantize")

    def _weight(self, node: onnx.NodeProto, target: str) -> onnx.NodeProto:
        array = self.constants[node.input[1]]
        summed = summed_axes(node, 1, array.ndim)
        values, scale = _symmetric(array, summed)
        (axis,) = set(range(array.ndim)) - set(summed)
        return self._dequantized(values, scale.reshape(-1), axis, target)

    def _bias(self, node: onnx.NodeProto, target: str) -> onnx.NodeProto:
        """The bias as int32 in units of the product's scales."""
        scale = self.constants[f"{node.name}_weight_scale"] * self.constants[f"{self.rounded[node.input[0]]}_scale"]
        limits = np.iinfo(np.int32)
        values = np.round(self.constants[node.input[2]] / scale.astype(np.float64)).clip(limits.min, limits.max)
        return self._dequantized(values.astype(np.int32), scale, 0, target)

    def _dequantized(self, values: np.ndarray, scale: np.ndarray, axis: int, target: str) -> onnx.NodeProto:
        names = self._named(target, scale, np.zeros_like(scale, dtype=values.dtype))
        self.constants[names[0]] = values
        return helper.make_node("DequantizeLinear", names, [target], name=f"{target}_dequantize", axis=axis)

    def _named(self, target: str, scale: np.ndarray | np.generic, zero: np.ndarray | np.generic) -> list[str]:
        names = [f"{target}_{kind}" for kind in ("levels", "scale", "zero")]
        self.constants |= {names[1]: np.asarray(scale), names[2]: np.asarray(zero)}
        return names


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def summed_axes(node: onnx.NodeProto, place: int, rank: int) -> tuple[int, ...]:
    """The axes of an operand that are summed over in an output: all entries along them share a scale."""
    if node.op_type == "Conv":
        return tuple(range(1, rank))
    transposed = bool(_attributes(node).get("transB" if place else "transA", 0))
    return (rank - 1 if (place == 0) != transposed else max(rank - 2, 0),)


def _symmetric(array: np.ndarray, summed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of 255 levels, and the float32 scale per slice: array ~ levels * scale."""
    largest = np.abs(array).max(axis=summed, keepdims=True)
    scale = np.maximum(largest / 127, 1e-12).astype(np.float32)
    return np.round(array / scale).clip(-127, 127).astype(np.int8), scale
