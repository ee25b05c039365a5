"""Modules timed beside each other in one process, and the time that their matrix products and convolutions take alone.

All take turns in random order, so that what changes on the machine meets all of them, and ratios are of runs that lie
within the same few milliseconds.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from medsearch.measurement.latency.timing import Latency
from medsearch.targets.target import clock

Run = Callable[[], object]

WARM_UP, LEAST, MOST = 2, 5, 1000
"""Rounds that do not count, fewest and most that do."""

SHORT_MS = 20.0
"""Runs shorter than this follow an untimed one, so that none is charged for filling the caches."""

_ATEN = torch.ops.aten
_PRODUCTS = {
    *(_ATEN.mm.default, _ATEN.addmm.default, _ATEN.bmm.default, _ATEN.baddbmm.default, _ATEN.mv.default),
    *(_ATEN.convolution.default, _ATEN.convolution_backward.default),
    _ATEN._scaled_dot_product_flash_attention_for_cpu.default,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward.default,
}
_PRODUCT_NODES = ("Conv", "Gemm", "MatMul", "Attention")  # and what ONNX Runtime fuses with them: FusedConv, ...


@dataclass(frozen=True, kw_only=True)
class Microbenchmark:
    """Latencies of all that ran, in order, and how many times slower each is than the first, as quartiles of rounds."""

    times: tuple[Latency, ...]
    ratios: tuple[tuple[float, float, float], ...]


def microbenchmark(runs: Sequence[Run], *, threads: int, seconds: float) -> Microbenchmark:
    """Time runs in rounds, each in random order, for about ``seconds`` or five rounds; see :func:`clock`."""
    now, order = clock(threads), random.Random(0)
    spent: list[list[float]] = [[] for _ in runs]
    end = now() + seconds
    while len(spent[0]) < WARM_UP + LEAST or (now() < end and len(spent[0]) < MOST):
        for index in order.sample(range(len(runs)), len(runs)):
            if not spent[index] or spent[index][-1] < SHORT_MS:
                runs[index]()
            start = now()
            runs[index]()
            spent[index].append((now() - start) * 1e3)
    counted = [taken[WARM_UP:] for taken in spent]
    ratios = [statistics.quantiles([b / a for a, b in zip(counted[0], own, strict=True)], n=4) for own in counted]
    return Microbenchmark(
        times=tuple(map(Latency.of, counted)), ratios=tuple((low, mid, high) for low, mid, high in ratios)
    )


def forward(module: nn.Module, x_BCS: Tensor, *, bf16: bool) -> Run:
    """One inference in eager torch; ``bf16`` in mixed precision."""

    def run() -> object:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            return module(x_BCS)

    return run


def training(module: nn.Module, x_BCS: Tensor, *, bf16: bool) -> Run:
    """Forward and backward to the input and all weights in eager torch; ``bf16`` in mixed precision."""
    wanted = [x_BCS.detach().clone().requires_grad_(), *module.parameters()]
    gradient = torch.randn(x_BCS.shape, generator=torch.Generator().manual_seed(1))
    gradient = torch.empty_like(x_BCS).copy_(gradient)

    def run() -> object:
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            y_BCS = module(wanted[0])
        return torch.autograd.grad(y_BCS, wanted, gradient.to(y_BCS.dtype), allow_unused=True)

    return run


def products_of(run: Run) -> Run | None:
    """The matrix products and convolutions that a run calls, alone, on the same tensors; None if there are none.

    A fused attention counts as one product, with its softmax.
    """
    with _Record() as record:
        run()

    def replay() -> object:
        with torch.no_grad():
            return [call(*values, **more) for call, values, more in record.calls]

    return replay if record.calls else None


class _Record(TorchDispatchMode):
    """Keep every product with what it was called on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            values, more = tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}))
            self.calls.append((func, values, more))
        return func(*args, **(kwargs or {}))


def products_share(model: bytes, inputs: dict[str, Any], *, threads: int, runs: int = 20) -> float:
    """Which share of its time in operators ONNX Runtime spends in matrix products and convolutions, by medians.

    The runtime's own profile tells only the time that passes; on a busy machine a share of it means more than a sum.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level, options.enable_profiling = 3, True
        options.profile_file_prefix = str(Path(folder) / "profile")
        opened = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            opened.run(None, inputs)
        events = json.loads(Path(opened.end_profiling()).read_text())
    spent: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            product = event["args"]["op_name"].removeprefix("Fused").startswith(_PRODUCT_NODES)
            spent[product, event["name"]].append(event["dur"])
    medians = {node: statistics.median(taken) for node, taken in spent.items()}
    in_products = sum(taken for (product, _), taken in medians.items() if product)
    return in_products / max(sum(medians.values()), 1e-9)
