"""Peak memory of a training step and of inference: added up from parts, traced as a whole, and measured for real.

Three levels, from fast to true, with one meaning - the most bytes that live at once:

* :func:`training_peak` and :func:`inference_peak` add up the footprints of parts, in microseconds.  What a whole step
  needs follows from them: the weights and their companions, what earlier parts hold for the backward pass, and the
  largest moment of the part at work.
* :func:`traced_peak` runs a whole step on tensors without contents.
* :func:`measured_peak` runs it for real, beside the allocator's own record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from medsearch.measurement.memory.trace import Footprint, StorageWatch
from medsearch.measurement.memory.workspace import Workspaces, allocated_peak

COPIES = 4
"""Weights during a step: the model's, the averaged model's, and the two moments of AdamW; the gradient comes on top."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The parts of a network in the order of the data, with what its step takes beside them.

    Args:
        parts: footprints of what comes before the stem, stem, blocks, downsamplings, head, and what follows the head,
            the loss last.
        stem, head: which parts are these.
        reads: the parts whose outputs the head is given, in the order of its inputs.
        batch_bytes: of the batch: images and targets.
        entered: of every part, the parts whose outputs entered the stage and the block around it, and which live until
            these are left; the part right before it aside.
        copy_bytes: of the images in channels-last layout, which live until the end of the forward pass.
        random_bytes: the state of the random numbers, which a part that is run again keeps and starts from.
        constant: what the device takes for itself, whatever the network.
        deadly: operators that end the process they run in.
    """

    parts: tuple[Footprint, ...]
    stem: int
    head: int
    reads: tuple[int, ...]
    batch_bytes: int
    entered: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    copy_bytes: int = 0
    random_bytes: int = 0
    constant: int = 0
    deadly: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The largest moment of a training step.

    Args:
        bytes: that live then.
        resident: of them, from step to step: weights, their average, moments, buffers, the batch.
        moment: ``"forward"``, ``"backward"`` or ``"update"``.
        part: at work then, the last one during the update.
        held: bytes that each part keeps for the backward pass at that moment.
    """

    bytes: int
    resident: int
    moment: str
    part: int
    held: tuple[int, ...]


def training_peak(chain: Chain, *, checkpointing: bool = False, accumulate: bool = False) -> int:
    """Peak bytes of one training step.

    Args:
        chain: the network.
        checkpointing: whether blocks and downsamplings keep their input alone, and are run again in the backward pass.
        accumulate: whether the gradients of an earlier part of the batch are there already.
    """
    return find_peak(chain, checkpointing=checkpointing, accumulate=accumulate).bytes


def find_peak(chain: Chain, *, checkpointing: bool = False, accumulate: bool = False) -> Peak:
    """The peak of :func:`training_peak`, with where in the step it is and what lives then."""
    parts, head = chain.parts, chain.head
    if checkpointing:
        parts = tuple(
            _again(part, chain.random_bytes) if chain.stem < i < head else part for i, part in enumerate(parts)
        )
    weights = sum(part.weights for part in parts)
    resident = chain.constant + chain.batch_bytes + COPIES * weights
    resident += sum(2 * part.buffers + part.counters for part in parts)
    given = resident + (weights if accumulate else 0)
    kept, left = _outputs_kept(parts, head)
    by_head = {i: left[i] for i, keeps in zip(chain.reads, parts[head].keeps, strict=True) if keeps}
    waiting = dict(zip(chain.reads, parts[head].gradients, strict=True))

    moments = [(resident + weights, "update", len(parts) - 1)]
    alive, features = given, 0
    for i, part in enumerate(parts):
        if i == head + 1:
            features = sum(by_head.values())
        given_now = left[i - 1] if i and not (i <= head and i - 1 in chain.reads) else 0
        given_now += _entered_bytes(chain, i, left)
        moments.append((chain.copy_bytes + alive + features + given_now + part.forward, "forward", i))
        alive += part.held + part.cached + kept[i]
        features += left[i] if i in chain.reads else 0

    start = [given]
    for part, output in zip(parts, kept, strict=True):
        start.append(start[-1] + part.held + output)
    gradients = 0
    for i in range(len(parts) - 1, -1, -1):
        pending = sum(by_head.values()) if i >= head else sum(size for j, size in waiting.items() if j < i)
        moments.append((start[i] + pending + parts[i].backward + gradients, "backward", i))
        gradients += 0 if accumulate else parts[i].weights
    peak, moment, at = max(moments)
    reached = 0 if moment == "update" else at
    held = tuple(
        part.held + output if i < reached else 0 for i, (part, output) in enumerate(zip(parts, kept, strict=True))
    )
    return Peak(bytes=peak, resident=resident, moment=moment, part=at, held=held)


def _entered_bytes(chain: Chain, at: int, sizes: Sequence[int]) -> int:
    """What stage and block around part ``at`` were given, of outputs of these sizes, but for what the head reads."""
    return sum(sizes[entered] for entered in chain.entered.get(at, ()) if entered not in chain.reads)


def _outputs_kept(parts: Sequence[Footprint], head: int) -> tuple[list[int], list[int]]:
    """Bytes of every output that it or the next part keeps for the backward pass, and of those that neither does."""
    kept = [part.output if part.keeps_output else 0 for part in parts]
    for i, part in enumerate(parts[1:], start=1):
        if i != head and part.keeps[0]:
            kept[i - 1] = parts[i - 1].output
    return kept, [part.output - size for part, size in zip(parts, kept, strict=True)]


def _again(part: Footprint, random_bytes: int) -> Footprint:
    """A part that keeps its input alone: its forward pass is made again while the gradient of its output waits.

    The second run keeps the random state of the moment, to go back to it, and ends once the backward pass has what it
    needs, so that of its output nothing is left; the statistics that it must not change are there twice.
    """
    forward = part.forward + part.output + part.buffers + 2 * random_bytes
    backward = max(forward, part.backward + part.buffers + random_bytes)
    return replace(part, held=random_bytes, cached=0, keeps_output=False, keeps=(True,), backward=backward)


def inference_peak(chain: Chain) -> int:
    """Peak bytes of one forward pass without gradients, weights included."""
    parts = chain.parts[: chain.head + 1]
    alive = chain.constant + chain.batch_bytes + sum(part.weights + part.buffers for part in parts)
    outputs = [part.output for part in parts]
    peak = alive
    previous = 0
    for i, part in enumerate(parts):
        peak = max(peak, alive + previous + _entered_bytes(chain, i, outputs) + part.infer)
        alive, previous = (alive + part.output, 0) if i in chain.reads else (alive, part.output)
    return peak


def traced_peak(
    step: Callable[[], object],
    resident: Callable[[], Sequence[Tensor]],
    *,
    workspaces: Workspaces | None = None,
    round_to: int = 1,
) -> int:
    """Peak bytes of a whole ``step`` on fake tensors, on top of what lives from step to step.

    To be called inside :func:`~medsearch.measurement.memory.trace.fake`; the step is run twice, because the first one
    makes the optimizer's moments.
    """
    with StorageWatch():
        step()
    kept = list(resident())
    with StorageWatch(round_to=round_to, workspaces=workspaces) as watch:
        watch.ignore(kept)
        step()
    return watch.peak + storage_bytes(kept, round_to=round_to)


def measured_peak(step: Callable[[], object], resident: Sequence[Tensor], device: torch.device) -> int:
    """Peak bytes while ``step`` runs: what the allocator handed out, on top of the ``resident`` tensors' storages.

    On CUDA this is the allocator's own peak counter, which knows what is resident.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        return before + allocated_peak(step, device)
    return storage_bytes(resident) + allocated_peak(step, device)


def storage_bytes(tensors: Sequence[Tensor], *, round_to: int = 1) -> int:
    """Bytes of the storages behind ``tensors``, each counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(-(-size // round_to) * round_to for size in storages.values())
