"""A run directory: what was asked, how far it came, what it made.  Every file in it is written in one step.

::

    settings.json   what was asked, every choice made
    state.json      seconds spent, tally, what was calibrated: written after every step
    study.db        the trials (an Optuna study, SQLite)
    models/<id>/    one delivered network each: model.pt, model.onnx, backbone.py, backbone.pt, budget.json
    results.json    everything that was found, for programs; written last
    report.md       the same for people, with front.png and front.svg
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medsearch.core.errors import RunError
from medsearch.core.files import read_json, write_json, write_text
from medsearch.measure.runtime import DEFAULT


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a search is asked to do; None leaves a choice to medsearch.

    Args:
        data: path or name of a data set; None is the embedded sample.
        task: where the data leaves it open.
        space: name or file.
        memory_bytes, latency_ms, parameters: the budgets of a training step, of the ONNX file, and of weights.
        inference_bytes, macs, file_bytes: the budgets of a forward pass, of multiply-adds, and of the ONNX file's size.
        fit_batch: whether each network is trained in the way whose step keeps ``memory_bytes``.
        seconds: time for everything.
        trials: number of trials; without ``seconds`` and ``trials`` a default time applies.
        finalists: networks trained fully.
        strategy: of the search.
        seed: of everything random.
        batch: images per training step.
        epochs_search, epochs: of trials, and of the full training.
        precision: of training, ``fp32`` or ``bf16``.
        workers: trainings at once.
        compress: whether the best network is compressed at the end.
        latency_threads: of the runtime, for the budget of latency.
        runtime: that networks are timed in.
        profile: file of the device's profile; None is the one in the cache.
    """

    data: str | None = None
    task: str | None = None
    space: str | None = None
    memory_bytes: int | None = None
    latency_ms: float | None = None
    parameters: int | None = None
    inference_bytes: int | None = None
    macs: int | None = None
    file_bytes: int | None = None
    seconds: float | None = None
    trials: int | None = None
    finalists: int = 3
    strategy: str = "tpe"
    seed: int = 0
    batch: int | None = None
    epochs_search: int | None = None
    epochs: int | None = None
    precision: str | None = None
    fit_batch: bool = False
    workers: int | None = None
    compress: bool = False
    latency_threads: int = 1
    runtime: str = DEFAULT
    profile: str | None = None


class Run:
    """One run directory.

    Args:
        folder: where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, settings: Settings, command: str) -> Run:
        """Start a new run in ``folder``, which has to be empty or not there yet."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            remedy = f"Continue it with: medsearch search --resume {folder} - or choose another folder with -o."
            raise RunError(str(folder), "is there already and not empty.", remedy)
        try:
            write_json(folder / "settings.json", {"command": command, **asdict(settings)})
        except OSError as problem:
            raise RunError(
                str(folder), f"cannot be written: {problem.strerror}.", "Choose another with -o."
            ) from problem
        return cls(folder)

    @classmethod
    def resume(cls, folder: Path) -> tuple[Run, Settings, str]:
        """Open a run that was interrupted, with its settings and the command that began it."""
        if not (folder / "settings.json").is_file():
            raise RunError(str(folder), "is not the folder of a search.", "Give the folder that -o named.")
        if (folder / "results.json").exists():
            raise RunError(str(folder), "this search is finished.", f"Read {folder / 'report.md'}.")
        data = read_json(folder / "settings.json")
        known = {field.name for field in fields(Settings)}
        if not isinstance(data, dict) or set(data) != known | {"command"}:
            raise RunError(str(folder / "settings.json"), "does not hold the settings of a search of this version.")
        command = str(data.pop("command"))
        return cls(folder), Settings(**data), command

    def discard(self) -> None:
        """Remove the folder of a run that ended before its first trial; one with trials stays."""
        if not (self.folder / "study.db").exists():
            for name in ("settings.json", "state.json"):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    @property
    def storage(self) -> str:
        """Where the trials are kept, as an Optuna storage URL."""
        return f"sqlite:///{self.folder / 'study.db'}"

    def state(self) -> dict[str, Any]:
        """What :meth:`note` kept; empty for a new run."""
        path = self.folder / "state.json"
        return dict(read_json(path)) if path.exists() else {}

    def note(self, **values: Any) -> None:
        """Keep plain values for a resumed run."""
        write_json(self.folder / "state.json", {**self.state(), **values})

    def model_folder(self, genotype_id: str) -> Path:
        """Where the files of one delivered network lie."""
        return self.folder / "models" / genotype_id

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write the results, in the order they have in the report; the run can no longer be resumed."""
        write_text(self.folder / "results.json", json.dumps(dict(results), indent=2, allow_nan=False) + "\n")
