"""One part of a network, run on tensors that have shapes but no contents, while every storage is counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medsearch.measurement.memory.norms import as_real
from medsearch.measurement.memory.workspace import Workspaces


class StorageWatch(TorchDispatchMode):
    """Count the bytes of the living storages that operators made: ``live`` now, ``peak`` since the last mark.

    Args:
        round_to: every storage counts as a multiple of so many bytes.
        workspaces: what operators take inside, on top; None counts storages alone.
    """

    def __init__(self, *, round_to: int = 1, workspaces: Workspaces | None = None) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.levels: list[int] = []
        self.round_to, self.workspaces = round_to, workspaces
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, before = kwargs or {}, self.live
        if func in _COUNTING:
            with unset_fake_temporarily():
                result = func(*args, **kwargs)
        else:
            result = as_real(func, args, func(*args, **kwargs))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        inside = self.workspaces.peak(func, args, kwargs, result) if self.workspaces else 0
        self.levels.append(max(self.live, before + inside))
        self.peak = max(self.peak, self.levels[-1])
        return result

    def _see(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = rounded(storage.nbytes(), self.round_to)
        self.live += size
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
        self.levels = [self.live]


_COUNTING = (torch.ops.aten.arange.default, torch.ops.aten.arange.start)
"""Operators that are run for real: losses make lists of axes from their results."""


def rounded(size: int, to: int) -> int:
    """The next multiple of ``to``."""
    return -(-size // to) * to


Order = tuple[int, ...]
"""The axes of a tensor, those with the longest steps in memory first."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Bytes that one part of a network takes in a training step, inputs and weights not counted.

    Args:
        weights: parameters; gradients, averages and optimizer moments are multiples of it.
        buffers: statistics and tables that are not trained.
        counters: the optimizer's own count of steps, one number for every parameter.
        held: what stays for the backward pass, inputs and output left out.
        cached: copies of weights in 16 bits that stay until the end of the forward pass.
        output: the output itself.
        keeps_output: whether the backward pass needs the output as it is.
        keeps: the same of every input.
        gradients: of every input, waiting for the part that made it.
        forward: the largest moment of the forward pass.
        backward: the largest moment of the backward pass, what is held and all gradients included.
        infer: the largest moment of a forward pass without gradients.
        shape: of the output for one image, which the next part is given.
        dtype: of the output.
        order: its axes in memory, the longest steps first.
        gradient_orders: the same of the gradient of every input, None where there is none.
    """

    weights: int
    buffers: int
    held: int
    output: int
    forward: int
    backward: int
    infer: int
    counters: int = 0
    cached: int = 0
    keeps_output: bool = False
    keeps: tuple[bool, ...] = (False,)
    gradients: tuple[int, ...] = (0,)
    shape: tuple[int, ...] = ()
    dtype: torch.dtype = torch.float32
    order: tuple[int, ...] = ()
    gradient_orders: tuple[Order | None, ...] = (None,)


class _Upstream(torch.autograd.Function):
    """What comes after a part: takes its output, holds nothing, and hands a gradient back that nobody else holds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Order | None) -> Tensor:
        ctx.like = (x.shape, x.stride(), x.dtype, x.device, order)
        return x.new_empty((0,))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        shape, stride, dtype, device, order = ctx.like
        if order is not None:
            return _dense(shape, order, dtype, device), None
        return torch.empty_strided(shape, stride, dtype=dtype, device=device), None


class _Before(torch.autograd.Function):
    """What comes before a part: hands it its input, and keeps the gradient as it comes back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradients: dict[int, Tensor], place: int) -> Tensor:
        ctx.gradients, ctx.place = gradients, place
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ctx.gradients[ctx.place] = grads[0]
        return None, None, None


def footprint(
    make: Callable[[], nn.Module],
    shapes: Sequence[tuple[int, ...]],
    *,
    precision: str,
    dtypes: Sequence[torch.dtype] | None = None,
    trained: Sequence[bool] | None = None,
    orders: Sequence[Order | None] | None = None,
    gradient: Order | None = None,
    workspaces: Workspaces | None = None,
    round_to: int = 1,
    device: str = "cpu",
) -> Footprint:
    """Trace one part on inputs of these shapes (B, C, *S); several are the stage features and the image of a head.

    Args:
        make: builds the module.
        shapes: of the inputs, batch included.
        precision: ``"fp32"`` or ``"bf16"`` (autocast).
        dtypes: of the inputs; float32 where they are not given.
        trained: whether each input wants a gradient; an image does not.
        orders: of the inputs' axes in memory; channels last where they are not given.
        gradient: the order of the axes of the output's gradient; that of the output where it is not given.
        workspaces: what operators take inside; None leaves it out.
        round_to: bytes to whose multiples the allocator rounds.
        device: whose operators are run; ``"cuda"`` needs a CUDA build of torch.
    """
    return _trace(make, shapes, precision, dtypes, trained, orders, gradient, workspaces, round_to, device).footprint


@dataclass(frozen=True, kw_only=True)
class _Trace:
    """A footprint and, moment by moment, the bytes of which it tells the largest: forward, backward, inference."""

    footprint: Footprint
    levels: tuple[list[int], list[int], list[int]]


def _trace(
    make: Callable[[], nn.Module],
    shapes: Sequence[tuple[int, ...]],
    precision: str,
    dtypes: Sequence[torch.dtype] | None,
    trained: Sequence[bool] | None,
    orders: Sequence[Order | None] | None,
    gradient: Order | None,
    workspaces: Workspaces | None,
    round_to: int,
    device: str,
) -> _Trace:
    with fake(make, device) as module:
        inputs = [
            _map(shape, dtype, wanted, order, device)
            for shape, dtype, wanted, order in zip(
                shapes,
                dtypes or [torch.float32] * len(shapes),
                trained or [True] * len(shapes),
                orders or [None] * len(shapes),
                strict=True,
            )
        ]
        _lay_out(module, len(shapes[0]))
        own = [*inputs, *module.parameters(), *module.buffers()]
        gradients: dict[int, Tensor] = {}

        def watching() -> StorageWatch:
            watch = StorageWatch(round_to=round_to, workspaces=workspaces)
            watch.ignore(own)
            return watch

        with _autocast(precision, device), torch.no_grad(), watching() as watch:
            run_part(module, inputs)
        infer = watch.levels
        with watching():
            keeps, keeps_output = _kept(module, inputs, precision, device)
        given = [_Before.apply(x, gradients, i) for i, x in enumerate(inputs)]
        with watching() as watch:
            with _autocast(precision, device):
                output = run_part(module, given)
                with_cache = watch.live
            forward, with_output = list(watch.levels), watch.live
            shape, dtype, order = tuple(output.shape[1:]), output.dtype, _order(output)
            size = rounded(output.untyped_storage().nbytes(), round_to) if _is_new(output, own) else 0
            backward = [watch.live]
            if output.requires_grad:
                last = _Upstream.apply(output, gradient)
                del output
                watch.mark()
                last.backward(last.detach())
                backward = watch.levels
        parameters = list(module.parameters())
        taken = Footprint(
            weights=sum(rounded(p.numel() * p.element_size(), round_to) for p in parameters),
            buffers=sum(rounded(b.numel() * b.element_size(), round_to) for b in module.buffers()),
            counters=sum(rounded(4, round_to) for _ in parameters),
            held=with_output - size,
            cached=with_cache - with_output,
            output=size,
            keeps_output=keeps_output and size > 0,
            keeps=keeps,
            gradients=tuple(
                rounded(gradients[i].untyped_storage().nbytes(), round_to) if i in gradients else 0
                for i in range(len(inputs))
            ),
            forward=max(forward, default=0),
            backward=max(backward),
            infer=max(infer, default=0),
            shape=shape,
            dtype=dtype,
            order=order,
            gradient_orders=tuple(_order(gradients[i]) if i in gradients else None for i in range(len(inputs))),
        )
    return _Trace(footprint=taken, levels=(forward, backward, infer))


@contextmanager
def fake(make: Callable[[], nn.Module], device: str = "cpu") -> Iterator[nn.Module]:
    """A module in training mode whose weights have shapes but no contents, and a context to run it in."""
    with torch.device("meta"):
        module = make().train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield module.to_empty(device=device)


def _lay_out(module: nn.Module, axes: int) -> None:
    """Filters for channels-last maps, as training has them."""
    for weight in module.parameters():
        if weight.ndim == axes > 3:
            layout = torch.channels_last if axes == 4 else torch.channels_last_3d
            weight.data = weight.data.contiguous(memory_format=layout)


def _map(shape: tuple[int, ...], dtype: torch.dtype, wanted: bool, order: Order | None, device: str) -> Tensor:
    """A tensor with its axes in this order in memory, or in channels-last layout where it is a map."""
    if order is None:
        channels_last = len(shape) > 3 and dtype.is_floating_point
        order = (0, *range(2, len(shape)), 1) if channels_last else tuple(range(len(shape)))
    return _dense(shape, order, dtype, device).requires_grad_(wanted and dtype.is_floating_point)


def _dense(shape: Sequence[int], order: Order, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """A tensor without gaps, its axes in this order in memory."""
    x = torch.empty([shape[axis] for axis in order], dtype=dtype, device=device)
    return x.permute([order.index(axis) for axis in range(len(shape))])


def _order(x: Tensor) -> Order:
    """The axes of ``x`` from the one with the longest steps in memory to the one with the shortest.

    Of equal steps those of an axis of length one are taken for the inner ones: laid out in this order again, a map of
    one channel is in channels-last layout if it was, which decides the layout of all that is made of it.
    """
    steps = x.stride()
    return tuple(sorted(range(x.ndim), key=lambda axis: (-steps[axis], x.shape[axis] == 1, axis)))


def _autocast(precision: str, device: str) -> torch.autocast:
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def _is_new(output: Tensor, own: Sequence[Tensor]) -> bool:
    return all(output.untyped_storage() is not tensor.untyped_storage() for tensor in own)


def run_part(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Run a part on one input, or a head on stage features and image."""
    return module(inputs[0]) if len(inputs) == 1 else module(list(inputs[:-1]), inputs[-1])


def _kept(module: nn.Module, inputs: Sequence[Tensor], precision: str, device: str) -> tuple[tuple[bool, ...], bool]:
    """Whether the backward pass needs each input and the output as they are.

    Found in a forward pass of its own: hooks on saved tensors delay their release, which a peak would show.
    """
    saved: list[Any] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.untyped_storage())
        return tensor

    with _autocast(precision, device), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = run_part(module, inputs)
    kept = [any(storage is x.untyped_storage() for storage in saved) for x in (*inputs, output)]
    return tuple(kept[:-1]), kept[-1]


Line = tuple[float, float]
"""Bytes without any image, and per image."""


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """A footprint for every batch, from two: each storage takes so much, and so much more for every image.

    Args:
        low, high: the footprints at two batches.
        batches: which they are; the same twice where no other will be asked for.
        lines: of the moments of the forward pass, the backward pass and inference, those that are the largest at some
            batch; which moment is the largest changes where a step is mostly weights or mostly images.
    """

    low: Footprint
    high: Footprint
    batches: tuple[int, int]
    lines: tuple[tuple[Line, ...], tuple[Line, ...], tuple[Line, ...]]

    def at(self, batch: int) -> Footprint:
        """The footprint at this batch."""
        if batch in self.batches:
            return self.low if batch == self.batches[0] else self.high
        assert self.batches[0] != self.batches[1], f"traced at batch {self.batches[0]} alone, asked for {batch}"
        share = (batch - self.batches[0]) / (self.batches[1] - self.batches[0])

        def between(low: int, high: int) -> int:
            return max(0, round(low + share * (high - low)))

        forward, backward, infer = (max(0, round(max(a + b * batch for a, b in lines))) for lines in self.lines)
        return replace(
            self.low,
            held=between(self.low.held, self.high.held),
            cached=between(self.low.cached, self.high.cached),
            output=between(self.low.output, self.high.output),
            gradients=tuple(map(between, self.low.gradients, self.high.gradients)),
            forward=forward,
            backward=backward,
            infer=infer,
        )


def scaled(
    make: Callable[[], nn.Module],
    shapes: Sequence[tuple[int, ...]],
    *,
    precision: str,
    dtypes: Sequence[torch.dtype] | None = None,
    trained: Sequence[bool] | None = None,
    orders: Sequence[Order | None] | None = None,
    gradient: Order | None = None,
    workspaces: Workspaces | None = None,
    round_to: int = 1,
    batches: tuple[int, int] = (4, 12),
    device: str = "cpu",
) -> Scaled:
    """Trace one part at two batches; ``shapes`` of the inputs are without a batch, all else as for a footprint."""
    found = {
        batch: _trace(
            make,
            [(batch, *shape) for shape in shapes],
            precision,
            dtypes,
            trained,
            orders,
            gradient,
            workspaces,
            round_to,
            device,
        )
        for batch in batches
    }
    low, high = (found[batch] for batch in batches)
    return Scaled(
        low=low.footprint,
        high=high.footprint,
        batches=batches,
        lines=tuple(_lines(*pair, batches) for pair in zip(low.levels, high.levels, strict=True)),  # type: ignore[arg-type]
    )


def _lines(low: Sequence[int], high: Sequence[int], batches: tuple[int, int]) -> tuple[Line, ...]:
    """The upper envelope of the moments; where the two runs differ in their moments, the line through both peaks."""
    if len(low) != len(high):
        low, high = [max(low, default=0)], [max(high, default=0)]
    span = max(1, batches[1] - batches[0])
    steepest: dict[float, float] = {}
    for a, b in zip(low, high, strict=True):
        slope = (b - a) / span
        steepest[slope] = max(a - slope * batches[0], steepest.get(slope, -float("inf")))
    hull: list[Line] = []
    for slope in sorted(steepest):
        line = (steepest[slope], slope)
        while hull and hull[-1][0] <= line[0]:
            hull.pop()
        while len(hull) > 1 and _meet(hull[-2], line) <= _meet(hull[-2], hull[-1]):
            hull.pop()
        hull.append(line)
    return tuple(hull) or ((0.0, 0.0),)


def _meet(one: Line, other: Line) -> float:
    """The batch at which two lines cross."""
    return (one[0] - other[0]) / (other[1] - one[1])
