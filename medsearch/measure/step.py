"""Memory of a training step for any genotype, batch and precision: every distinct part traced once, then sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn

from medsearch.backbones import Call, Interface, Plan, plan
from medsearch.measure.memory import Chain
from medsearch.measure.trace import Footprint, Scaled, scaled
from medsearch.measure.workspace import Workspaces
from medsearch.spaces import Genotype

Shape = tuple[int, ...]
Map = tuple[Shape, torch.dtype, tuple[int, ...] | None]
"""Shape of one image's map (C, *S), its type, and the order of its axes (B, C, *S) in memory."""

Loss = Callable[[Tensor, Tensor], Tensor]


class Float(nn.Module):
    """The output in 32 bits, as losses take it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


class Restored(nn.Module):
    """What a denoiser does after its head: add the image, go back to raw intensities."""

    mean: Tensor

    def __init__(self, channels: int, *, dims: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, *(1,) * dims))

    def forward(self, x_BCS: Tensor) -> Tensor:
        return (x_BCS.detach() + x_BCS) * self.mean + self.mean


class Judged(nn.Module):
    """A loss of the output and the targets."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: list[Tensor], target: Tensor) -> Tensor:
        return self.loss(outputs[0], target)


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the memory of a device adds to tensors.

    Args:
        kind: ``"cpu"`` or ``"cuda"``, whose operators are traced.
        round_to: bytes to whose multiples its allocator rounds.
        constant: bytes that libraries keep for themselves, whatever the network.
        images: copies of a batch's images that live on it during a step.
    """

    kind: str = "cpu"
    round_to: int = 1
    constant: int = 0
    images: int = 2

    @property
    def traced(self) -> str:
        """The kind of device whose operators can be traced here: that of the CPU, where torch has no other."""
        return self.kind if torch.cuda.is_available() else "cpu"


CPU = Device()
CUDA = Device(kind="cuda", round_to=512, images=1)
"""Blocks of 512 bytes; what the libraries of a GPU keep is measured on it: see :func:`this_device`."""


@cache
def this_device() -> Device:
    """The device that trains here; of a GPU with what its matrix libraries keep from the allocator for themselves."""
    if not torch.cuda.is_available():
        return CPU
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):  # workspaces belong to streams, so that a new one has none yet
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        for dtype in (torch.float32, torch.bfloat16):
            _products(dtype)
        torch.cuda.synchronize()
        kept = torch.cuda.memory_allocated() - before
    torch._C._cuda_clearCublasWorkspaces()
    return replace(CUDA, constant=kept)


def _products(dtype: torch.dtype) -> None:
    """Matrix products as training runs them, plain and with a bias, forwards and backwards."""
    layer = nn.Linear(64, 64, device="cuda", dtype=dtype)
    x = torch.zeros(64, 64, device="cuda", dtype=dtype, requires_grad=True)
    (layer(x) @ x).sum().backward()


class _Part:
    """A traced part with its operators that end processes, remembering the batches it was asked for."""

    def __init__(self, found: Scaled, deadly: Collection[str]) -> None:
        self.found, self.deadly = found, frozenset(deadly)
        self.output: Map = (found.low.shape, found.low.dtype, found.low.order)
        self._at: dict[int, Footprint] = {}

    def at(self, batch: int) -> Footprint:
        if batch not in self._at:
            self._at[batch] = self.found.at(batch)
        return self._at[batch]


class StepMemory:
    """Footprints of the parts of a space, for one kind of image, as chains of parts.

    Args:
        interface: task, channels and outputs.
        size: spatial size of the images.
        batches: two batches at which every part is traced, others follow from them; or one batch twice.
        loss: of the output in 32 bits and the targets; None leaves out what it takes.
        workspaces: what operators take inside; None leaves it out, and then nothing is allocated.
        device: whose memory it is.
    """

    def __init__(
        self,
        interface: Interface,
        size: Shape,
        *,
        batches: tuple[int, int] = (4, 12),
        loss: Loss | None = None,
        workspaces: Workspaces | None = None,
        device: Device = CPU,
    ) -> None:
        self.interface, self.size, self.batches, self.loss = interface, size, batches, loss
        self.workspaces, self.device = workspaces, device
        self._traced: dict[tuple[Call, tuple[Map, ...], str], _Part] = {}

    def chain(self, genotype: Genotype | Plan, *, batch: int, precision: str) -> Chain:
        """The network of ``genotype`` as a chain of parts, for :func:`~medsearch.measure.memory.training_peak`."""
        planned = plan(genotype, self.interface) if isinstance(genotype, Genotype) else genotype
        parts, reads = self._walk(planned, precision)
        return Chain(
            parts=tuple(part.at(batch) for part in parts),
            stem=1,
            head=1 + sum(map(len, planned.stages)) + 1,
            reads=reads,
            batch_bytes=self._batch_bytes(batch),
            constant=self.device.constant,
            deadly=frozenset().union(*(part.deadly for part in parts)),
        )

    @property
    def deadly(self) -> bool:
        """Whether any operator has ended the process that ran it."""
        return bool(self.workspaces and self.workspaces.deadly)

    def _walk(self, planned: Plan, precision: str) -> tuple[list[_Part], tuple[int, ...]]:
        """The parts in order, and which of their outputs the head reads."""
        image: Map = ((self.interface.channels, *self.size), torch.float32, None)
        first = self._part(planned.standardize, (image,), precision, trained=())
        parts = [first, self._part(planned.stem, (first.output,), precision, trained=())]
        features, reads = [], []
        for calls in planned.stages:
            for call in calls:
                parts.append(self._part(call, (parts[-1].output,), precision, trained=(0,)))
            features.append(parts[-1].output)
            reads.append(len(parts) - 1)
        head = self._part(planned.head, (*features, first.output), precision, trained=range(len(features)))
        return [*parts, head, *self._after(head.output)], (*reads, 0)

    def _after(self, output: Map) -> Iterator[_Part]:
        """What follows the head."""
        if self.interface.task == "denoising":
            call = Call(Restored, (self.interface.channels,), (("dims", len(self.size)),))
            yield (part := self._part(call, (output,), "fp32", trained=(0,)))
            output = part.output
        if output[1] != torch.float32:
            yield (part := self._part(Call(Float), (output,), "fp32", trained=(0,)))
            output = part.output
        if self.loss is not None:
            yield self._part(Call(Judged, (self.loss,)), (output, self._target()), "fp32", trained=(0,))

    def _part(self, call: Call, maps: tuple[Map, ...], precision: str, *, trained: Collection[int]) -> _Part:
        """One part, traced when it is first met."""
        key = (call, maps, precision)
        if key not in self._traced:
            met = self.workspaces.met if self.workspaces else set()
            met.clear()
            found = scaled(
                call.make,
                [shape for shape, _, _ in maps],
                precision=precision,
                dtypes=[dtype for _, dtype, _ in maps],
                orders=[order for _, _, order in maps],
                trained=[i in trained for i in range(len(maps))],
                workspaces=self.workspaces,
                round_to=self.device.round_to,
                device=self.device.traced,
                batches=self.batches,
            )
            self._traced[key] = _Part(found, met)
        return self._traced[key]

    def _target(self) -> Map:
        """Targets of one image, as losses take them: a label, labels of a map, or an image."""
        if self.interface.task == "classification":
            return ((), torch.int64, None)
        if self.interface.task == "denoising":
            return ((self.interface.channels, *self.size), torch.float32, None)
        return (self.size, torch.int64, None)

    def _batch_bytes(self, batch: int) -> int:
        """Bytes of the images, of their copy in channels-last layout (one channel needs none), and of the targets."""
        image = 4 * batch * self.interface.channels * math.prod(self.size)
        shape, dtype, _ = self._target()
        target = dtype.itemsize * batch * math.prod(shape)
        copies = self.device.images if self.interface.channels > 1 else 1
        return copies * image + target
