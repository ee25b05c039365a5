"""What operators take while they run, beside what they return: measured, once per operator and shape.

Shapes alone do not tell it: a convolution may reorder its filters, a norm may copy a map into another layout, a matrix
product may keep a buffer, and what they do changes with the library and its version.  So an operator that may do such
things is run once, for itself, on tensors of the same shapes, with the allocator's own record beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils._pytree import tree_leaves

from medsearch.core.children import OUT_OF_MEMORY, ChildDied
from medsearch.core.errors import RunError
from medsearch.core.files import read_json, write_json
from medsearch.measurement.memory.bounds import most
from medsearch.measurement.memory.operators import Like, Operator

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
        known: bytes by operator as text, which an earlier one has found: see the attribute.
        measure: runs an operator and says what it took; by default in this process.

    Attributes:
        known: what was measured, plain data that may be kept for this processor, its instructions and version of torch.
        died: what could not be measured because it ended the process that ran it, with that; bounds are taken instead.
        met: those of them that were asked for since this was last emptied.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        known: Mapping[str, int] | None = None,
        measure: Callable[[Operator], int] | None = None,
    ) -> None:
        self.device = torch.device(device).type
        self.known = dict(known or {})
        self.died: dict[str, ChildDied] = {}
        self.met: set[str] = set()
        self._kept = 0
        self._measure = measure or run_operator

    def load(self, file: Path) -> None:
        """Take over what :meth:`save` has kept; a file that cannot be read holds nothing."""
        with suppress(RunError):
            data = read_json(file)
            if isinstance(data, dict) and all(isinstance(size, int) for size in data.values()):
                self.known |= data

    def save(self, file: Path) -> None:
        """Keep what is known, beside what the file has from others.

        Raises:
            WriteError: where it cannot be written.
        """
        before = len(self.known)
        self.load(file)
        if not file.exists() or before != self._kept:
            write_json(file, self.known)
        self._kept = len(self.known)

    def peak(self, func: Any, args: Any, kwargs: Any, result: Any) -> int:
        """The most that ``func`` has allocated at once, results included; 0 for operators that take nothing more."""
        if not any(part in func.name() for part in MAY_TAKE) and not _mixed(args):
            return 0
        operator = Operator.of(func, args, kwargs, device=self.device)
        if sum(like.bytes for like in operator.tensors) > LARGEST:
            return 0
        found = self._asked(operator)
        if found is None:
            return most(operator, [Like.of(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])
        return found

    def _asked(self, operator: Operator) -> int | None:
        """What was measured; None where that cannot be done, which is not tried again."""
        key = str(operator)
        if key not in self.known and key not in self.died:
            try:
                with unset_fake_temporarily():
                    self.known[key] = self._measure(operator)
            except ChildDied as death:
                self.died[key] = death
        if key in self.died:
            self.met.add(key)
        return self.known.get(key)


def run_operator(operator: Operator) -> int:
    """Peak bytes of ``operator`` on zeros, results included, run in this process; 0 where torch refuses to run it."""
    try:
        return allocated_peak(operator.on_zeros(), torch.device(operator.device))
    except RuntimeError as problem:  # where the shapes and types of a trace are not quite those of a real run
        if OUT_OF_MEMORY in str(problem):
            raise
        return 0


def _mixed(args: Sequence[Any]) -> bool:
    """Whether tensors of several floating types meet, of which some are cast to the widest first."""
    return len({arg.dtype for arg in args if isinstance(arg, Tensor) and arg.is_floating_point()}) > 1


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
