"""What operators take while they run, beside what they return: measured, once per operator and shape.

Shapes alone do not tell it: a convolution may reorder its filters, a norm may copy a map into another layout, a matrix
product may keep a buffer, and what they do changes with the library and its version.  So an operator that may do such
things is run once, for itself, on tensors of the same shapes, with the allocator's own record beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map

MAY_TAKE = (
    "convolution",
    "scaled_dot_product",
    "norm",
    "upsample",
    "softmax",
    "mm",
    "pool",
    "scan",
    "cum",
    "mean",
    "sum",
    "std",
    "var",
    "sort",
    "topk",
    "fused_adamw",
)
"""Parts of the names of operators that may take more than they return."""

LARGEST = 2**28
"""Bytes of an operator's tensors above which it is not run: the model of a machine should not need the machine."""


class Workspaces:
    """Peak bytes inside operators, remembered by operator, shapes, strides and types.

    Args:
        device: where to run them.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._known: dict[Any, int] = {}

    def peak(self, func: Any, args: Any, kwargs: Any) -> int:
        """The most that ``func`` has allocated at once, results included; 0 for operators that take nothing more."""
        leaves = tree_leaves((args, kwargs))
        if not any(part in func.name() for part in MAY_TAKE) and not _mixed(leaves):
            return 0
        key = (func.name(), *map(_described, leaves))
        if key not in self._known:
            tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            small = sum(tensor.numel() * tensor.element_size() for tensor in tensors) <= LARGEST
            self._known[key] = self._measured(func, args, kwargs) if small else 0
        return self._known[key]

    def _measured(self, func: Any, args: Any, kwargs: Any) -> int:
        with unset_fake_temporarily():
            args, kwargs = tree_map(self._real, (args, kwargs))
            try:
                return allocated_peak(lambda: func(*args, **kwargs), self.device)
            except RuntimeError:  # where the shapes and types of a trace are not quite those of a real run
                return 0

    def _real(self, leaf: Any) -> Any:
        """Zeros in place of a fake tensor: legal wherever indices are wanted, and no slower than other numbers."""
        if not isinstance(leaf, Tensor):
            return leaf
        extent = 1 + sum((side - 1) * stride for side, stride in zip(leaf.shape, leaf.stride(), strict=True))
        return torch.zeros(max(extent, 1), dtype=leaf.dtype, device=self.device).as_strided(leaf.shape, leaf.stride())


def _mixed(leaves: Sequence[Any]) -> bool:
    """Whether tensors of several floating types meet, of which some are cast to the widest first."""
    return len({leaf.dtype for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()}) > 1


def _described(leaf: Any) -> Any:
    return (leaf.shape, leaf.stride(), leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf)


def allocated_peak(step: Callable[[], object], device: torch.device) -> int:
    """The most bytes that ``step`` has had from the allocator at once, beyond what was there before.

    On CUDA this is the allocator's own peak counter.  On the CPU it is the running sum of the profiler's record of
    every allocation and release.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    results = profile.profiler.kineto_results
    events = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    return _highest([change for _, change in sorted(events, key=lambda pair: pair[0])])


def _highest(changes: Sequence[int]) -> int:
    level = peak = 0
    for change in changes:
        level += change
        peak = max(peak, level)
    return peak
