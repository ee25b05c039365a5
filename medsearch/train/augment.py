"""Random changes that leave the meaning of a medical image alone: flips, quarter turns, shifts, brightness, contrast.

A batch is cut into a few groups, and each group gets one geometric change: as varied over an epoch as one change per
image, at the cost of a few copies per batch.  Shapes: B batch, C channels, S spatial axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augment:
    """What to vary.

    Args:
        flip: mirror each axis half of the time.
        turn: a quarter turn, half of the time, in a random pair of equally long axes.
        shift: largest shift per axis, as a share of its length; what enters is what leaves on the other side mirrored.
        intensity: largest relative change of contrast, and of brightness in deviations of the image.
        groups: geometric changes per batch.
    """

    flip: bool = True
    turn: bool = True
    shift: float = 0.08
    intensity: float = 0.2
    groups: int = 8

    def __call__(self, images_BCS: Tensor, targets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change images, and targets alike where they are maps of the same spatial size."""
        spatial = tuple(images_BCS.shape[2:])
        dense = targets.ndim > len(spatial) and tuple(targets.shape[-len(spatial) :]) == spatial
        images, maps = [], []
        for chunk, target in zip(images_BCS.chunk(self.groups), targets.chunk(self.groups), strict=True):
            change = self._draw(spatial, rng)
            images.append(_apply(chunk, change, len(spatial)))
            maps.append(_apply(target, change, len(spatial)) if dense else target)
        return self._intensities(torch.cat(images), targets, rng), torch.cat(maps)

    def _draw(self, spatial: tuple[int, ...], rng: torch.Generator) -> dict[str, tuple[int, ...]]:
        dims = len(spatial)
        flips = torch.rand(dims, generator=rng) < (0.5 if self.flip else 0.0)
        shifts = (torch.rand(dims, generator=rng) * 2 - 1) * self.shift * torch.tensor(spatial)
        pairs = [(i, j) for i in range(dims) for j in range(i + 1, dims) if spatial[i] == spatial[j]]
        turn: tuple[int, ...] = ()
        if self.turn and pairs:
            turn = pairs[int(torch.randint(len(pairs), (1,), generator=rng))]
        turned = bool(torch.rand(1, generator=rng) < 0.5)
        return {
            "flip": tuple(i for i in range(dims) if flips[i]),
            "turn": turn if turned else (),
            "shift": tuple(int(shift.round()) for shift in shifts),
        }

    def _intensities(self, images_BCS: Tensor, targets: Tensor, rng: torch.Generator) -> Tensor:
        if self.intensity == 0 or targets.shape == images_BCS.shape:
            return images_BCS
        batch, channels, *spatial = images_BCS.shape
        axes = tuple(range(2, images_BCS.ndim))
        std, mean = torch.std_mean(images_BCS, dim=axes, keepdim=True)
        contrast, brightness = (
            (torch.rand(batch, channels, *(1,) * len(spatial), generator=rng) * 2 - 1) * self.intensity
            for _ in range(2)
        )
        return images_BCS * (1 + contrast) + (brightness * std - contrast * mean)


def _apply(x: Tensor, change: dict[str, tuple[int, ...]], dims: int) -> Tensor:
    first = x.ndim - dims
    if change["flip"]:
        x = x.flip([first + axis for axis in change["flip"]])
    if change["turn"]:
        x = x.rot90(1, [first + axis for axis in change["turn"]])
    for axis, shift in enumerate(change["shift"]):
        if shift:
            x = _shift(x, shift, first + axis)
    return x


def _shift(x: Tensor, shift: int, axis: int) -> Tensor:
    """Move by ``shift`` positions along ``axis``, the gap filled with the mirrored edge."""
    length = x.shape[axis]
    if shift > 0:
        return torch.cat([x.narrow(axis, 0, shift).flip(axis), x.narrow(axis, 0, length - shift)], axis)
    return torch.cat([x.narrow(axis, -shift, length + shift), x.narrow(axis, length + shift, -shift).flip(axis)], axis)
