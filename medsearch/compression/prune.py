"""Structured pruning: hidden channels, heads and whole blocks go where they matter least for what they cost.

Source: the importance of a unit is the squared first-order change of the loss without it (Molchanov et al. 2019,
arXiv:1906.10771, eq. 8), (sum w g)^2 over the weights that read the unit, for small batches of training images.  What
differs: it is set against the multiply-adds that the unit costs; blocks are judged by the loss itself; the layer that
reads takes over what is lost (see ``refit``).
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from medsearch.backbones import Interface, Network
from medsearch.compression.refit import Moments, moments, refit_
from medsearch.compression.structure import Position, Units, cut, macs, macs_per_unit, positions, units, with_counts
from medsearch.data import Split
from medsearch.spaces import Genotype
from medsearch.tasks import Target, Task

Batch = tuple[Tensor, Tensor]

IMAGES, BATCH, AT_ONCE = 256, 8, 64
"""Calibration images, those of one gradient, and those of one forward pass without."""
FLOOR = 0.125
"""Share of its units that every layer keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pruned:
    """A pruned network, not yet trained again.

    Args:
        macs: multiply-adds of one image.
        loss: mean loss over calibration images.
        dropped: stage and block of the blocks that went.
    """

    model: Network
    genotype: Genotype
    macs: int
    loss: float
    dropped: tuple[Position, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Pruner:
    """A trained network with all that decides what to cut; calling it cuts down to a share of its multiply-adds.

    Args:
        model: stays as it is.
        batches: calibration images with targets, see :func:`calibration`.
    """

    model: Network
    genotype: Genotype
    interface: Interface
    task: Task
    batches: Sequence[Batch]

    def __call__(self, keep_macs: float) -> Pruned:
        """The network at ``keep_macs`` of its multiply-adds (or at its floors), as a new one.

        Every layer keeps an eighth of its units, hidden widths become multiples of 8, or of 16 from 64 on, as
        runtimes like them, and every stage keeps a block.  A block goes as a whole where that leaves a lower loss than
        narrower blocks alone.
        """
        target = keep_macs * self.before.macs
        best = self._cut(target, ())
        while (block := self._least_needed_block(best.dropped, target)) is not None:
            shorter = self._cut(target, (*best.dropped, block))
            if shorter.loss >= best.loss:
                break
            best = shorter
        return best

    @cached_property
    def before(self) -> Pruned:
        """The network as it came, for comparison."""
        return self._evaluated(self.model, self.genotype, ())

    def _cut(self, target: float, dropped: tuple[Position, ...]) -> Pruned:
        violation = self._macs(with_counts(self.genotype, {}, dropped)) - target
        alive = {unit: score for unit, score in self._importance.items() if unit.place.at not in dropped}
        kept = least_loss(alive, self._costs, violation)
        adapted = copy.deepcopy(self.model)
        for unit, chosen in kept.items():
            entries = unit.group.read.entries(unit.count, chosen)
            refit_(adapted.get_submodule(unit.reader), self._seen[unit.reader], entries)
        return self._evaluated(*cut(adapted, self.genotype, self.interface, kept, dropped), dropped)

    def _least_needed_block(self, dropped: tuple[Position, ...], target: float) -> Position | None:
        """The block whose loss costs least per multiply-add, among those that are not too much to drop."""
        current = self._macs(with_counts(self.genotype, {}, dropped))
        best: tuple[float, Position] | None = None
        for at in positions(self.genotype):
            left = [block for block in positions(self.genotype) if block[0] == at[0] and block not in dropped]
            without = (*dropped, at)
            if at in dropped or len(left) < 2:
                continue
            saved = current - self._macs(with_counts(self.genotype, {}, without))
            if saved <= current - target:
                harm = self._evaluated(*cut(self.model, self.genotype, self.interface, {}, without), without).loss
                best = min(best or (float("inf"), at), ((harm - self.before.loss) / saved, at))
        return best[1] if best else None

    def _macs(self, genotype: Genotype) -> int:
        return macs(genotype, self.interface, tuple(self.batches[0][0].shape[2:]))

    @torch.no_grad()
    def _evaluated(self, model: Network, genotype: Genotype, dropped: tuple[Position, ...]) -> Pruned:
        mean = float(torch.stack([self.task.loss(model(images), targets) for images, targets in self._large]).mean())
        return Pruned(model=model, genotype=genotype, macs=self._macs(genotype), loss=mean, dropped=dropped)

    @cached_property
    def _large(self) -> list[Batch]:
        """The same images in fewer batches."""
        step = AT_ONCE // BATCH
        parts = [zip(*self.batches[i : i + step], strict=True) for i in range(0, len(self.batches), step)]
        return [(torch.cat(images), torch.cat(targets)) for images, targets in parts]

    @cached_property
    def _costs(self) -> dict[Units, float]:
        size = tuple(self.batches[0][0].shape[2:])
        return macs_per_unit(units(self.model, self.genotype), self.genotype, self.interface, size)

    @cached_property
    def _seen(self) -> dict[str, Moments]:
        layers = [unit.reader for unit in self._costs]
        return moments(self.model, layers, (images for images, _ in self._large))

    @cached_property
    def _importance(self) -> dict[Units, Tensor]:
        return importance(self.model, list(self._costs), self.task, self.batches)


def calibration(
    split: Split, target: Target, *, images: int = IMAGES, batch: int = BATCH, seed: int = 0
) -> list[Batch]:
    """Batches of randomly drawn images with their targets, without augmentation."""
    chosen = np.random.default_rng(seed).permutation(len(split.images))[:images]
    parts = [split.take(chosen[start : start + batch]) for start in range(0, len(chosen), batch)]
    return [(torch.from_numpy(part.images).float(), target.tensor(part.targets)) for part in parts]


def importance(model: Network, found: Collection[Units], task: Task, batches: Sequence[Batch]) -> dict[Units, Tensor]:
    """For every kind of units the squared first-order change of the loss without each of them, as mean over batches."""
    model = copy.deepcopy(model).requires_grad_().eval()
    readers = {unit: model.get_parameter(f"{unit.path}.{unit.group.read.name}") for unit in found}
    scores = {unit: torch.zeros(unit.count) for unit in found}
    for images, targets in batches:
        gradients = torch.autograd.grad(task.loss(model(images), targets), list(readers.values()))
        for (unit, weight), gradient in zip(readers.items(), gradients, strict=True):
            change = (weight.detach() * gradient).movedim(unit.group.read.axis, 0).reshape(unit.count, -1).sum(1)
            scores[unit] += change.square() / len(batches)
    return scores


def least_loss(scores: Mapping[Units, Tensor], costs: Mapping[Units, float], violation: float) -> dict[Units, Tensor]:
    """The units that stay, where some go, when the least important per multiply-add go until ``violation`` is saved."""
    order = {unit: score.argsort() for unit, score in scores.items()}
    gone = dict.fromkeys(scores, 0)
    queue: list[tuple[float, int, int]] = []
    kinds = list(scores)

    def offer(index: int) -> None:
        unit = kinds[index]
        multiple = 1 if unit.knob != "hidden" else 16 if unit.count >= 64 else 8
        next_gone = gone[unit] + ((unit.count - gone[unit]) % multiple or multiple)
        if unit.count - next_gone >= max(multiple, FLOOR * unit.count):
            loss = float(scores[unit][order[unit][gone[unit] : next_gone]].sum())
            heapq.heappush(queue, (loss / (costs[unit] * (next_gone - gone[unit])), index, next_gone))

    for index in range(len(kinds)):
        offer(index)
    while violation > 0 and queue:
        _, index, next_gone = heapq.heappop(queue)
        unit = kinds[index]
        violation -= costs[unit] * (next_gone - gone[unit])
        gone[unit] = next_gone
        offer(index)
    return {unit: order[unit][count:].sort().values for unit, count in gone.items() if count}
