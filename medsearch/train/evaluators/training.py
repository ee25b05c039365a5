"""Score a genotype by training it for a while, from fresh weights or from where its last training was paused."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medsearch.core.errors import CheckpointError
from medsearch.core.files import write_bytes
from medsearch.spaces import Genotype
from medsearch.train.evaluator import EVALUATORS, Evaluator, Trained
from medsearch.train.session import Leg, Session

REMEDY = "Delete it, to train anew."
SAVED_SECONDS = 30.0
"""Between two writings of a checkpoint while a leg goes on: what a kill may cost."""


@EVALUATORS.add("training")
@dataclass(frozen=True, kw_only=True)
class Training(Evaluator):
    """Trains genotypes on one data set by one recipe."""

    CONTINUES = True

    def __call__(self, genotype: Genotype) -> Trained:
        """Train to the end of the leg, from the checkpoint if it is there, and leave the new state in its place."""
        session = Session(self.network(genotype), self.data, self.task, self.recipe)
        path = self.checkpoint
        if path is not None and path.exists():
            _go_on(session, path)
        leg = self.leg or Leg(steps=self.recipe.epochs * session.per_epoch, falls=True)
        session.run(leg, pause=_saving(path, session) if path is not None and leg.seconds is None else None)
        metrics = session.evaluate()
        if path is not None:
            write_checkpoint(path, session.state())
        return Trained(
            model=session.averaged.cpu(),
            error=self.task.error(metrics),
            metrics=metrics,
            seconds=session.seconds,
            training_seconds=session.training_seconds,
            epochs=session.epochs,
        )


def _go_on(session: Session, path: Path) -> None:
    state = read_checkpoint(path)
    try:
        session.load(state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as problem:
        raise CheckpointError(str(path), f"is not of this network: {problem}", REMEDY) from problem


def _saving(path: Path, session: Session) -> Callable[[], None]:
    """Saves the state of a training, unless that was done less than ``SAVED_SECONDS`` ago."""
    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        if time.monotonic() - saved >= SAVED_SECONDS:
            write_checkpoint(path, session.state())
            saved = time.monotonic()

    return save


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Put the state of a training into ``path`` in one step.

    Raises:
        WriteError: where that cannot be.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state of a training from ``path``, tensors and plain values alone.

    Raises:
        CheckpointError: for a file that holds anything else, or is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise CheckpointError(str(path), f"cannot be read: {problem}", REMEDY) from problem
    return state
