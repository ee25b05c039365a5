"""How long the gradients of large depthwise filters take: torch's own, and those put together from pieces.

    python -m medsearch.studies.depthwise

Prints one row per map, window and precision: milliseconds of forward and backward pass on one thread, torch's own way
first, and how many times faster the other one is.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from medsearch.blocks.depthwise import depthwise_by_pieces
from medsearch.measurement.threads import torch_threads
from medsearch.studies.microbenchmark import microbenchmark

MAPS = ((24, 24), (48, 12), (96, 6))
"""Channels and side of the maps of a small network on images of 48 pixels."""
WINDOWS = (5, 7)
BATCH = 64


def compare(channels: int, side: int, window: int, dtype: torch.dtype, *, seconds: float) -> tuple[float, float]:
    """Milliseconds of torch's own way, and how many times faster pieces are."""
    x_BCHW = torch.randn(BATCH, channels, side, side, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, 1, window, window, dtype=dtype, requires_grad=True)
    x_BCHW.requires_grad_()
    padding = (window // 2, window // 2)

    def step(forward: object) -> None:
        y: Tensor = forward(x_BCHW, weight)  # type: ignore[operator]
        torch.autograd.grad(y, (x_BCHW, weight), torch.ones_like(y))

    plain = partial(F.conv2d, padding=padding, groups=channels)
    found = microbenchmark(
        [partial(step, plain), partial(step, partial(depthwise_by_pieces, padding=padding))], threads=1, seconds=seconds
    )
    return found.times[0].median_ms, 1 / found.ratios[1][1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each comparison (default 1)")
    seconds = parser.parse_args().seconds
    print("channels  side  window  precision  plain ms  times faster")
    with torch_threads(1):
        for channels, side in MAPS:
            for window in WINDOWS:
                for dtype in (torch.float32, torch.bfloat16):
                    ms, faster = compare(channels, side, window, dtype, seconds=seconds)
                    name = str(dtype).removeprefix("torch.")
                    print(f"{channels:8}  {side:4}  {window:6}  {name:9}  {ms:8.2f}  {faster:12.2f}", flush=True)


if __name__ == "__main__":
    main()
