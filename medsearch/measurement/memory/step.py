"""Memory of a training step for any genotype, batch and precision: every distinct part traced once, then sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medsearch.backbones import Call, Interface, NetworkPlan, plan
from medsearch.measurement.memory.peak import Chain
from medsearch.measurement.memory.trace import Footprint, Order, Scaled, scaled
from medsearch.measurement.memory.workspace import Workspaces
from medsearch.spaces import Genotype
from medsearch.tasks import task_type

Shape = tuple[int, ...]
Map = tuple[Shape, torch.dtype, Order | None]
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


class LossPart(nn.Module):
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
        copies: of a batch's images that are made on it for the forward pass.
        random_bytes: the state of its random numbers; that of a GPU is kept beside it.
    """

    kind: str = "cpu"
    round_to: int = 1
    constant: int = 0
    copies: int = 1
    random_bytes: int = 0

    @property
    def traced(self) -> str:
        """The kind of device whose operators can be traced here: that of the CPU, where torch has no other."""
        return self.kind if torch.cuda.is_available() else "cpu"


CPU = Device(random_bytes=torch.get_rng_state().nbytes)
CUDA = Device(kind="cuda", round_to=512, copies=0)
"""Blocks of 512 bytes; images are laid out on their way to it; what the libraries of a GPU keep is measured on it: see
:func:`this_device`."""


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


class _Place(NamedTuple):
    """A part where it stands: what it is given, in which precision, and which of it wants a gradient."""

    call: Call
    maps: tuple[Map, ...]
    precision: str
    trained: tuple[int, ...] = (0,)


class _TracedPart:
    """A traced part with its operators that end processes, remembering the batches it was asked for."""

    def __init__(self, found: Scaled, deadly: Iterable[str]) -> None:
        self.found, self.deadly = found, frozenset(deadly)
        self.output: Map = (found.low.shape, found.low.dtype, found.low.order)
        self.gradient_orders = found.low.gradient_orders
        self._at: dict[int, Footprint] = {}

    def at(self, batch: int) -> Footprint:
        if batch not in self._at:
            self._at[batch] = self.found.at(batch)
        return self._at[batch]


def _entered(planned: NetworkPlan) -> dict[int, tuple[int, ...]]:
    """Of every part, those whose outputs entered the stage and the block around it, but for the part before it."""
    found: dict[int, tuple[int, ...]] = {}
    start = 2  # behind what standardises, and the stem
    for stage in planned.stages:
        into_stage = start - 1
        for step in stage.steps:
            for part in range(start, start + len(step)):
                found[part] = tuple({into_stage, start - 1} - {part - 1})
            start += len(step)
    return found


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
        self._traced: dict[tuple[_Place, Order | None], _TracedPart] = {}

    def chain(self, genotype: Genotype | NetworkPlan, *, batch: int, precision: str) -> Chain:
        """The network of ``genotype`` as a chain of parts, for :func:`~medsearch.measurement.memory.peak.find_peak`."""
        planned = plan(genotype, self.interface) if isinstance(genotype, Genotype) else genotype
        parts, reads = self._walk(planned, precision)
        return Chain(
            parts=tuple(part.at(batch) for part in parts),
            stem=1,
            head=1 + sum(len(stage.parts) for stage in planned.stages) + 1,
            reads=reads,
            batch_bytes=self._batch_bytes(batch),
            entered=_entered(planned),
            copy_bytes=self.device.copies * self._image_bytes(batch),
            random_bytes=self.device.random_bytes,
            constant=self.device.constant,
            deadly=frozenset().union(*(part.deadly for part in parts)),
        )

    @property
    def deadly(self) -> bool:
        """Whether any operator has ended the process that ran it."""
        return bool(self.workspaces and self.workspaces.died)

    def _walk(self, planned: NetworkPlan, precision: str) -> tuple[list[_TracedPart], tuple[int, ...]]:
        """The parts in order, and which of their outputs the head reads."""
        image: Map = ((self.interface.channels, *self.size), torch.float32, None)
        places = [_Place(call=planned.standardize, maps=(image,), precision=precision, trained=())]
        first = self._part(places[0]).output
        places.append(_Place(call=planned.stem, maps=(first,), precision=precision, trained=()))
        features, reads = [], []
        for stage in planned.stages:
            for call in stage.parts:
                places.append(_Place(call=call, maps=(self._part(places[-1]).output,), precision=precision))
            features.append(self._part(places[-1]).output)
            reads.append(len(places) - 1)
        wanted = tuple(range(len(features)))
        places.append(_Place(call=planned.head, maps=(*features, first), precision=precision, trained=wanted))
        places += self._after(self._part(places[-1]).output)
        return self._with_gradients(places, dict(zip(reads, wanted, strict=True))), (*reads, 0)

    def _with_gradients(self, places: Sequence[_Place], reads: dict[int, int]) -> list[_TracedPart]:
        """The parts once more, from the last, each with the gradient of its output as it is laid out by what follows.

        Args:
            places: of all parts.
            reads: which input of the head the output of a part is; its gradient from there comes before any other.
        """
        head = max(reads) + 1
        parts: list[_TracedPart] = []
        of_head: tuple[Order | None, ...] = ()
        for i in range(len(places) - 1, -1, -1):
            after = parts[-1].gradient_orders[0] if parts and i != head - 1 else None
            from_head = of_head[reads[i]] if i in reads else None
            parts.append(self._part(places[i], from_head or after))
            if i == head:
                of_head = parts[-1].gradient_orders
        return parts[::-1]

    def _after(self, output: Map) -> Iterator[_Place]:
        """What follows the head."""
        if task_type(self.interface.task).RESTORES:
            call = Call(Restored, (self.interface.channels,), (("dims", len(self.size)),))
            yield (place := _Place(call=call, maps=(output,), precision="fp32"))
            output = self._part(place).output
        if output[1] != torch.float32:
            yield (place := _Place(call=Call(Float), maps=(output,), precision="fp32"))
            output = self._part(place).output
        if self.loss is not None:
            yield _Place(call=Call(LossPart, (self.loss,)), maps=(output, self._target()), precision="fp32")

    def _part(self, place: _Place, gradient: Order | None = None) -> _TracedPart:
        """One part, traced when it is first met; a gradient laid out as the output is needs no second look."""
        if gradient is not None and gradient == self._part(place).output[2]:
            gradient = None
        if (place, gradient) not in self._traced:
            met = self.workspaces.met if self.workspaces else set()
            met.clear()
            found = scaled(
                place.call.make,
                [shape for shape, _, _ in place.maps],
                precision=place.precision,
                dtypes=[dtype for _, dtype, _ in place.maps],
                orders=[order for _, _, order in place.maps],
                trained=[i in place.trained for i in range(len(place.maps))],
                gradient=gradient,
                workspaces=self.workspaces,
                round_to=self.device.round_to,
                device=self.device.traced,
                batches=self.batches,
            )
            self._traced[place, gradient] = _TracedPart(found, met)
        return self._traced[place, gradient]

    def _target(self) -> Map:
        """The target of one image, as losses take it: a label, labels of a map, numbers, or an image."""
        interface, target = self.interface, task_type(self.interface.task).TARGET
        shape = target.shape(channels=interface.channels, size=self.size, outputs=interface.outputs)
        return (shape, torch.int64 if target.classes else torch.float32, None)

    def _batch_bytes(self, batch: int) -> int:
        """Bytes of the images and of the targets."""
        shape, dtype, _ = self._target()
        return self._image_bytes(batch) + dtype.itemsize * batch * math.prod(shape)

    def _image_bytes(self, batch: int) -> int:
        return 4 * batch * self.interface.channels * math.prod(self.size)
