"""ONNX Runtime computes what a part computes, by value, through both of torch's exporters."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from medsearch.exporters.onnx import to_onnx_fast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Part

UNEVEN, EVEN = {2: (9, 11), 3: (9, 4, 5)}, {2: (8, 8), 3: (4, 8, 4)}


@pytest.fixture(scope="module", autouse=True)
def rare_collections() -> Iterator[None]:
    """Exporters make a great many objects: looking through them takes a quarter of the time."""
    before = gc.get_threshold()
    gc.set_threshold(1_000_000)
    yield
    gc.set_threshold(*before)


class FlatAndSolid(nn.Module):
    """One part built twice, so that both are exported for the price of one."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.flat, self.solid = part.trained(2), part.trained(3)

    def forward(self, flat: tuple[Any, ...], solid: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        return self.flat(*flat), self.solid(*solid)


def repeated(x_BCS: Tensor) -> Tensor:
    """The first two positions of every axis over and over: which one is best is a tie."""
    for axis in range(2, x_BCS.ndim):
        x_BCS = x_BCS.index_select(axis, torch.arange(x_BCS.shape[axis]) % min(2, x_BCS.shape[axis]))
    return x_BCS


def run(data: bytes, args: tuple[Any, ...]) -> list[Tensor]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    given = {f"input_{i}": x.numpy() for i, x in enumerate(tree_leaves(args))}
    wanted = {value.name for value in session.get_inputs()}
    return [torch.from_numpy(y) for y in session.run(None, {key: x for key, x in given.items() if key in wanted})]


# The exporter of torch 2.13 copies tree specifications in a way that torch itself deprecates.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "sizes",
    [{2: UNEVEN[2], 3: EVEN[3]}, pytest.param({2: EVEN[2], 3: UNEVEN[3]}, marks=pytest.mark.slow)],
    ids=["uneven plane, even volume", "even plane, uneven volume"],
)
@torch.no_grad()
def test_onnx_gives_the_same_values_at_another_batch_size(
    any_part: Part, sizes: dict[int, tuple[int, ...]], caplog: pytest.LogCaptureFixture, close: Callable[..., bool]
) -> None:
    caplog.set_level(logging.ERROR, logger="torch")
    pair = FlatAndSolid(any_part).eval()
    traced = tuple(any_part.arguments(sizes[dims], batch=2) for dims in (2, 3))
    batch = tree_map(lambda _: {0: torch.export.Dim.DYNAMIC}, traced)
    names = [f"input_{i}" for i, _ in enumerate(tree_leaves(traced))]
    program = torch.onnx.export(
        pair, traced, dynamo=True, dynamic_shapes=batch, input_names=names, verbose=False, opset_version=20
    )
    data = program.model_proto.SerializeToString()
    for images, pattern in ((1, lambda x: x), (3, repeated)):
        args = tuple(tree_map(pattern, any_part.arguments(sizes[dims], batch=images)) for dims in (2, 3))
        for dims, seen, expected in zip((2, 3), run(data, args), pair(*args), strict=True):
            assert close(seen, expected, 1e-4), f"{dims}D, {images} images"


@torch.no_grad()
def test_the_quick_exporter_gives_the_same_values(any_part: Part, dims: int, close: Callable[..., bool]) -> None:
    """The one through which parts are timed."""
    module = any_part.trained(dims)
    for size in (UNEVEN[dims], EVEN[dims]):
        args = any_part.arguments(size, batch=1)
        data = to_onnx_fast(module, args)
        for pattern in (lambda x: x, repeated):
            shown = tree_map(pattern, args)
            assert close(run(data, shown)[0], module(*shown), 1e-4), f"at {size}"
