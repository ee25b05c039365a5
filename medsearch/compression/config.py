"""What a compression is asked to do; imports nothing heavy, so that the command line can list its options at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medsearch.core.errors import UsageError
from medsearch.core.options import Option, option, options_of

if TYPE_CHECKING:
    from medsearch.train.loop import TrainingRecipe


def _recipe() -> TrainingRecipe:
    from medsearch.train.loop import TrainingRecipe

    return TrainingRecipe(epochs=8, lr=1e-3)


@dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """What to aim for, and how.

    Args:
        keep_macs: share of the multiply-adds to keep in pruning; 1 for no pruning.
        max_drop: points of the task's primary metric that may be lost on the validation split.
        keep_blocks: share of a part's blocks of weights to keep where that makes it faster; 1 for no block pruning.
        epochs: of the distillation after pruning; None gives a fifth of those the network was trained for, at least 4.
        recipe: of the distillation, its epochs aside.
        seconds: for each comparison with the stopwatch.
    """

    keep_macs: float = option(0.7, "share of the multiply-adds to keep (default 0.7)", example="0.7", least=0)
    max_drop: float = option(
        1.0, "points of the metric that may be lost on the validation split (default 1)", example="1.0", least=0
    )
    keep_blocks: float = option(
        0.5,
        "share of a part's blocks of weights to keep where that is faster (default 0.5)",
        example="0.5",
        least=0,
    )
    epochs: int | None = option(None, "epochs of distillation (default: a fifth of the training's)", example="N")
    recipe: TrainingRecipe = field(default_factory=_recipe)
    seconds: float = 0.4

    def __post_init__(self) -> None:
        for name in ("keep_macs", "keep_blocks"):
            if not 0 < (share := getattr(self, name)) <= 1:
                raise UsageError(name, f"expected a share above 0 and at most 1, got {share}.")
        if not self.max_drop >= 0:
            raise UsageError("max_drop", f"expected points, 0 or more, got {self.max_drop}.")

    def shares(self) -> Iterator[tuple[float, float]]:
        """What to keep of multiply-adds and blocks, attempt by attempt."""
        for keep_macs in dict.fromkeys((self.keep_macs, (1 + self.keep_macs) / 2)):
            yield keep_macs, self.keep_blocks
        if min(self.keep_macs, self.keep_blocks) < 1:
            yield 1.0, 1.0


OPTIONS: dict[str, Option] = options_of(CompressionConfig)
