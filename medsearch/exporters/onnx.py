"""Network to ONNX; that ONNX Runtime computes the same, ``targets/target.py`` shows by value."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.onnx
from torch import nn
from torch.utils._pytree import tree_leaves

from medsearch.core.errors import RefusedError
from medsearch.core.files import write_bytes
from medsearch.exporters.plain import plain_copy

OPSET = 20  # the first with GELU as one node; from 23 on attention is one node too, which ONNX Runtime runs no faster


def to_onnx(model: nn.Module, size: tuple[int, ...], channels: int, *, path: Path | None = None) -> bytes:
    """One ONNX file, weights inside, any batch size: ``image`` (B, channels, *size), raw intensities, to ``output``.

    BatchNorm is folded into convolutions, and what the exporter notes about source files is left out.  The model stays
    as it was, on its device and in its mode.

    Raises:
        RefusedError: where the exporter knows no ONNX form of an operation.
    """
    network = plain_copy(model)
    image_BCS = torch.zeros(2, channels, *size)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                network,
                (image_BCS,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["image"],
                output_names=["output"],
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as problem:
        raise RefusedError("ONNX export", f"the exporter refused the network: {_last_line(problem)}") from problem
    assert program is not None
    data = _cleaned(program.model_proto)
    if path is not None:
        write_bytes(path, data)
    return data


def to_onnx_fast(module: nn.Module, inputs: tuple[Any, ...]) -> bytes:
    """An ONNX file for timing a part or a network at the fixed shapes of ``inputs`` (tensors, or lists of them).

    The tensors are named ``input_0``, ``input_1``, ... in order; one that the part does not read may be missing.  Goes
    through torch's older, tracing exporter, which takes a tenth of the time and gives files that run equally fast; what
    that one refuses goes through the exporter of :func:`to_onnx`.
    """
    module = plain_copy(module)
    names = [f"input_{i}" for i, _ in enumerate(tree_leaves(inputs))]
    file: Any = io.BytesIO()
    with _quiet(), torch.no_grad():
        try:
            torch.onnx.export(module, inputs, file, dynamo=False, input_names=names, opset_version=OPSET)
        except (torch.onnx.errors.OnnxExporterError, RuntimeError):
            program = torch.onnx.export(
                module, inputs, dynamo=True, input_names=names, opset_version=OPSET, verbose=False
            )
            assert program is not None
            return _cleaned(program.model_proto)
    return _cleaned(onnx.load_model_from_string(file.getvalue()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporters say about optional packages, their own age and the shapes they fix."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _cleaned(model: onnx.ModelProto) -> bytes:
    """The file without notes on source files, and with the axes of transpositions counted from the front.

    The tracing exporter counts some from the back, which ONNX Runtime refuses.
    """
    graph = model.graph
    for noted in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Transpose" else ():
            attribute.ints[:] = [axis % len(attribute.ints) for axis in attribute.ints]
    return model.SerializeToString()


def _last_line(problem: Exception) -> str:
    return (str(problem).strip().splitlines() or [type(problem).__name__])[-1]
