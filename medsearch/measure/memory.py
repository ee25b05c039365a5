"""Peak memory of one training step: traced part by part without doing the arithmetic, added up, and measured for real.

A part of a network is run forwards and backwards on fake tensors, which have shapes but no contents, while every
storage that is born and dies is counted.  What a whole step needs follows from the parts: the weights and their
companions, what earlier parts hold for the backward pass, and the largest moment of the part at work.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StorageWatch(TorchDispatchMode):
    """Count the bytes of the living storages that operators made: ``live`` now, ``peak`` since the last mark."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.live -= size

    def ignore(self, tensors: Sequence[Tensor]) -> None:
        """Leave these tensors out of the count: they belong to somebody else."""
        for tensor in tensors:
            self._known.add(tensor.untyped_storage())

    def mark(self) -> None:
        """Start a new peak from what lives now."""
        self.peak = self.live


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that one part of a network takes in a training step, inputs and weights not counted.

    Args:
        weights: parameters; gradients, averages and optimizer moments are multiples of it.
        buffers: statistics and tables that are not trained.
        held: what stays for the backward pass, the output left out.
        output: the output itself.
        keeps_input: whether the backward pass needs the input as it is.
        forward: the largest moment of the forward pass.
        backward: the largest moment of the backward pass, what is held and all gradients included.
        infer: the largest moment of a forward pass without gradients.
        dtype: of the output, which the next part is given.
    """

    weights: int
    buffers: int
    held: int
    output: int
    keeps_input: bool
    forward: int
    backward: int
    infer: int
    dtype: torch.dtype = torch.float32


def footprint(
    make: Callable[[], nn.Module],
    shapes: Sequence[tuple[int, ...]],
    *,
    precision: str,
    dtypes: Sequence[torch.dtype] | None = None,
) -> Footprint:
    """Trace one part on inputs of these shapes (B, C, *S); several are the stage features and the image of a head.

    Args:
        make: builds the module.
        shapes: of the inputs, batch included.
        precision: ``"fp32"`` or ``"bf16"`` (autocast).
        dtypes: of the inputs; float32 where they are not given.
    """
    with torch.device("meta"):
        module = make().train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        module.to_empty(device="cpu")
        layout = torch.channels_last if len(shapes[0]) == 4 else torch.channels_last_3d
        inputs = [
            torch.empty(shape, dtype=dtype).to(memory_format=layout).requires_grad_()
            for shape, dtype in zip(shapes, dtypes or [torch.float32] * len(shapes), strict=True)
        ]
        weights = [*module.parameters(), *module.buffers()]
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
            torch.no_grad(),
            StorageWatch() as watch,
        ):
            watch.ignore([*inputs, *weights])
            run_part(module, inputs)
            infer = watch.peak
        keeps_input, kept_output = _kept(module, inputs, precision)
        with StorageWatch() as watch:
            watch.ignore([*inputs, *weights])
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                output = run_part(module, inputs)
            forward, with_output = watch.peak, watch.live
            size, dtype_out = output.untyped_storage().nbytes(), output.dtype
            watch.mark()
            output.backward(torch.empty_like(output))
            backward = watch.peak
    parameters = sum(p.numel() * p.element_size() for p in module.parameters())
    buffers = sum(b.numel() * b.element_size() for b in module.buffers())
    return Footprint(
        weights=parameters,
        buffers=buffers,
        held=with_output if kept_output else with_output - size,
        output=0 if kept_output else size,
        keeps_input=keeps_input,
        forward=forward,
        backward=backward,
        infer=infer,
        dtype=dtype_out,
    )


def run_part(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Run a part on one input, or a head on stage features and image."""
    return module(inputs[0]) if len(inputs) == 1 else module(list(inputs[:-1]), inputs[-1])


def _kept(module: nn.Module, inputs: Sequence[Tensor], precision: str) -> tuple[bool, bool]:
    """Whether the backward pass needs the first input and the output as they are.

    Found in a forward pass of its own: hooks on saved tensors delay their release, which a peak would show.
    """
    saved: list[Any] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.untyped_storage())
        return tensor

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        output = run_part(module, inputs)
    needed = (inputs[0].untyped_storage(), output.untyped_storage())
    return any(storage is needed[0] for storage in saved), any(storage is needed[1] for storage in saved)


COPIES = 4
"""Weights during a step: the model's, the averaged model's, and the two moments of AdamW; the gradient comes on top."""


def training_peak(parts: Sequence[Footprint], *, batch_bytes: int, stage_ends: Sequence[int] = ()) -> int:
    """Peak bytes of one training step of a network made of ``parts`` in this order, the head last.

    Args:
        parts: footprints of stem, blocks, downsamplings and head.
        batch_bytes: bytes of one batch of standardised images in fp32.
        stage_ends: indices of the parts whose output the head reads, which therefore live until the head is done.
    """
    weights = sum(part.weights for part in parts)
    resident = COPIES * weights + 2 * sum(part.buffers for part in parts) + 2 * batch_bytes
    before = []
    alive = resident
    for i, part in enumerate(parts):
        before.append(alive)
        needed = i in stage_ends or (i + 1 < len(parts) and parts[i + 1].keeps_input)
        alive += part.held + (part.output if needed else 0)
    forward = max(
        start + part.forward + (parts[i - 1].output if i and not parts[i].keeps_input else 0)
        for i, (start, part) in enumerate(zip(before, parts, strict=True))
    )
    gradients = 0
    backward = 0
    for start, part in zip(reversed(before), reversed(parts), strict=True):
        backward = max(backward, start + part.backward + gradients)
        gradients += part.weights
    return max(forward, backward, resident + weights)


def inference_peak(parts: Sequence[Footprint], *, batch_bytes: int, stage_ends: Sequence[int] = ()) -> int:
    """Peak bytes of one forward pass without gradients, weights included."""
    alive = sum(part.weights + part.buffers for part in parts) + 2 * batch_bytes
    peak = alive
    previous = 0
    for i, part in enumerate(parts):
        peak = max(peak, alive + previous + part.infer)
        previous = part.output
        if i in stage_ends:
            alive, previous = alive + part.output, 0
    return peak


def measured_peak(step: Callable[[], object], resident: Sequence[Tensor], device: torch.device) -> int:
    """Peak bytes while ``step`` runs: what the allocator handed out, on top of the ``resident`` tensors' storages.

    On CUDA this is the allocator's own peak counter.  On the CPU it is the running sum of the profiler's record of
    every allocation and release, so that operators' private workspaces are counted too.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in resident}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    results = profile.profiler.kineto_results
    events = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    level = peak = 0
    for _, change in sorted(events, key=lambda pair: pair[0]):
        level += change
        peak = max(peak, level)
    return sum(storages.values()) + peak
