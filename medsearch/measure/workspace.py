"""What operators take while they run, beside what they return: measured, once per operator and shape.

Shapes alone do not tell it: a convolution may reorder its filters, a norm may copy a map into another layout, a matrix
product may keep a buffer, and what they do changes with the library and its version.  So an operator that may do such
things is run once, for itself, on tensors of the same shapes, with the allocator's own record beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._pytree import tree_leaves, tree_map

from medsearch.core.children import OUT_OF_MEMORY, ChildDied
from medsearch.measure.operators import Blank, Operator, blank, tensors_in, total

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

REORDERS = 3
"""Copies that a library may make of what an operator reads and writes."""
LARGEST = 2**28
"""Bytes of an operator's tensors above which it is not run: the model of a machine should not need the machine."""


class Workspaces:
    """Peak bytes inside operators, remembered by operator, shapes, strides and types.

    Args:
        device: where to run them.
        run: runs one and says what it took; raises ChildDied where it ended the process that ran it.

    Attributes:
        known: bytes by the text of an operator.
        deadly: operators that ended the process that ran them; an upper bound stands for them.
        met: those of them that were asked for since this was last emptied.
    """

    def __init__(self, device: torch.device | str = "cpu", *, run: Callable[[Operator], int] | None = None) -> None:
        self.device, self._run = torch.device(device), run or run_operator
        self.known: dict[str, int] = {}
        self.deadly: set[str] = set()
        self.met: set[str] = set()

    def peak(self, func: Any, args: Any, kwargs: Any, result: Any) -> int:
        """The most that ``func`` has allocated at once, results included; 0 for operators that take nothing more.

        Args:
            func: the overload.
            args, kwargs: that it is called on; tensors may be fake.
            result: what it returns, likewise.
        """
        if not any(part in func.name() for part in MAY_TAKE) and not _mixed(tree_leaves((args, kwargs))):
            return 0
        operator = Operator.of(func, args, kwargs, self.device)
        key = str(operator)
        if key not in self.known:
            self.known[key] = self._measured(operator, key, result)
        if key in self.deadly:
            self.met.add(key)
        return self.known[key]

    def _measured(self, operator: Operator, key: str, result: Any) -> int:
        if total(tensors_in([operator.args, operator.kwargs])) > LARGEST:
            return 0
        try:
            with unset_fake_temporarily():
                return self._run(operator)
        except ChildDied:
            self.deadly.add(key)
            return most(operator, tensors_in(tree_map(blank, result)))


def run_operator(operator: Operator) -> int:
    """Peak bytes inside an operator, run on zeros; 0 where it refuses what it is called on.

    The shapes and types of a trace are not always quite those of a real run.
    """
    try:
        return allocated_peak(operator.call(), torch.device(operator.device))
    except RuntimeError as problem:
        if OUT_OF_MEMORY in str(problem):
            raise
        return 0


def most(operator: Operator, results: Sequence[Blank]) -> int:
    """Upper bound of the peak bytes inside an operator that cannot be run, results included.

    Libraries reorder what they are given into blocks of 16 channels, there and back and in 32 bits; a convolution may
    lay out the window of every position of an image, and its gradients do so again.
    """
    involved = [*tensors_in([operator.args, operator.kwargs]), *results]
    taken = total(results) + REORDERS * sum(map(_in_blocks, involved))
    if "convolution" in operator.name:
        maps = [one for one in involved if len(one.shape) > 3]
        window = max((math.prod(one.shape[1:]) // max(1, one.shape[1]) for one in maps[1:2]), default=1)
        taken += 2 * 4 * window * max((math.prod(one.shape[1:]) for one in maps), default=0)
    return taken


def _in_blocks(tensor: Blank) -> int:
    """Bytes of a tensor in 32 bits whose first two axes are filled up to multiples of 16."""
    padded = [-(-side // 16) * 16 if axis < 2 else side for axis, side in enumerate(tensor.shape)]
    return 4 * math.prod(padded)


def _mixed(leaves: Sequence[Any]) -> bool:
    """Whether tensors of several floating types meet, of which some are cast to the widest first."""
    return len({leaf.dtype for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()}) > 1


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
