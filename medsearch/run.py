"""A run directory: what was asked, how far it came, what it made.  Every file in it is written in one step.

::

    config.json   what was asked, every choice made, fingerprints of the data and the space
    space.yaml      the space as it was when the run began
    state.json      seconds spent, proposals, what networks took: written after every step
    study.db        the trials (an Optuna study, SQLite)
    models/<id>/    one delivered network each: model.pt, model.onnx, backbone.py, backbone.pt, budget.json,
                    and the file of the deployment target where that is no ONNX
    deaths.jsonl    what ended child processes, a line each
    profile.json    timings of this device, only where the cache could not take them
    results.json    everything that was found, for programs; written last
    report.md       the same for people, with front.png and front.svg
    .lock           held by the process that works on the run; .holder.json says which that is
"""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsearch.config import KEYS, SearchConfig
from medsearch.core.errors import RunError, WriteError
from medsearch.core.files import read_json, write_json, write_text
from medsearch.core.lock import HOLDER, LOCK, release_for_good
from medsearch.core.plugins import in_use


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run works on, so that a later start notices when it is something else.

    Args:
        data: see :meth:`~medsearch.data.Dataset.fingerprint`.
        space: see :meth:`~medsearch.spaces.Space.fingerprint`.
    """

    data: Mapping[str, Any]
    space: str


STATE: dict[str, Any] = {
    "seconds": 0.0,
    "plan": {"": None},
    "proposals": {"": 0},
    "phases": {"": 0.0},
    "trained": {"": 0.0},
    "training_seconds": {"": 0.0},
    "test_reads": 0,
    "trials": 0,
    "precision": "",
    "precision_because": "",
    "networks": {"": {}},
    "measured": {"": {}},
}
"""What values of a state are like, by name."""


def _is_like(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example, inside too; numbers are 0 or more, and None is always right."""
    if value is None or example is None:
        return True
    if isinstance(example, dict):
        inner = next(iter(example.values()), None)
        return isinstance(value, dict) and all(_is_like(each, inner) for each in value.values())
    if isinstance(example, str):
        return isinstance(value, str)
    kinds = (int, float) if isinstance(example, float) else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf


class Run:
    """One run directory.

    Args:
        folder: where it lies.
        config: what was asked.
        command: that began it.
        inputs: what it works on.
    """

    def __init__(self, folder: Path, config: SearchConfig, command: str, inputs: Inputs) -> None:
        self.folder, self.config, self.command, self.inputs = folder, config, command, inputs

    @classmethod
    def create(cls, folder: Path, config: SearchConfig, command: str, inputs: Inputs, *, space: str) -> Run:
        """Start a new run in ``folder``, which has to be empty or not there yet; ``space`` is the text of its YAML.

        Raises:
            RunError: if anything is in the folder.
            WriteError: if it cannot be written; then nothing is left of it.
        """
        cls.check_empty(folder)
        run = cls(folder, config, command, inputs)
        try:
            write_text(run.space, space)
            run.keep(config)  # last: from here on it is a run
        except WriteError:
            run.discard()
            raise
        return run

    @staticmethod
    def check_empty(folder: Path) -> None:
        """RunError if a new run has no place in ``folder``."""
        if not folder.exists():
            return
        if not folder.is_dir() or any(path.name not in (LOCK, HOLDER) for path in folder.iterdir()):
            remedy = f"Continue it with: {resume_command(folder)} - or choose another folder with -o."
            raise RunError(str(folder), "is there already and not empty.", remedy)

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """Open a run that was begun before."""
        cls.check_begun(folder)
        data = read_json(folder / "config.json")
        asked = isinstance(data, dict) and set(data) == {*KEYS, "command", "inputs"}
        if not asked or set(data["inputs"]) != {"data", "space"}:
            raise RunError(str(folder / "config.json"), "does not hold the configuration of a search of this version.")
        command, inputs = str(data.pop("command")), Inputs(**data.pop("inputs"))
        return cls(folder, SearchConfig.from_data(data), command, inputs)

    @staticmethod
    def check_begun(folder: Path) -> None:
        """RunError if there is no run of this version in ``folder``."""
        if (folder / "settings.json").is_file():
            remedy = "Go on with it in the version that began it, or begin a new run."
            raise RunError(str(folder), "was begun by an earlier version of medsearch.", remedy)
        if not (folder / "config.json").is_file():
            raise RunError(str(folder), "is not the folder of a search.", "Give the folder that -o named.")

    def keep(self, config: SearchConfig) -> None:
        """Remember this configuration from now on."""
        self.config = config
        asked = {"command": self.command, "inputs": asdict(self.inputs), **config.to_data()}
        write_json(self.folder / "config.json", asked)

    def discard(self) -> None:
        """Remove the folder of a run that ended before its first trial; one with trials stays."""
        if not self.folder.is_dir() or self.has_trials:
            return
        for name in ("config.json", "state.json", "space.yaml", "profile.json", "deaths.jsonl"):
            (self.folder / name).unlink(missing_ok=True)
        release_for_good(self.folder)
        with suppress(OSError):  # somebody else has put something there
            self.folder.rmdir()

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        return resume_command(self.folder)

    @property
    def space(self) -> Path:
        """The space as it was when the run began."""
        return self.folder / "space.yaml"

    @property
    def profile(self) -> Path:
        """Timings of this device that the cache could not take."""
        return self.folder / "profile.json"

    @property
    def deaths(self) -> Path:
        """What ended child processes of this run."""
        return self.folder / "deaths.jsonl"

    @property
    def storage(self) -> str:
        """Where the trials are kept, as an Optuna storage URL."""
        return f"sqlite:///{self.folder / 'study.db'}"

    @property
    def has_trials(self) -> bool:
        """Whether the search has begun."""
        return (self.folder / "study.db").exists()

    def state(self) -> dict[str, Any]:
        """What :meth:`note` kept; empty for a new run."""
        path = self.folder / "state.json"
        if not path.exists():
            return {}
        found = read_json(path)
        if not isinstance(found, dict):
            raise self.damaged(f"holds {type(found).__name__}, not what a run knows")
        for name, value in found.items():
            if not _is_like(value, STATE.get(name)):
                raise self.damaged(f"'{name}' is {value!r}")
        return found

    def damaged(self, problem: str) -> RunError:
        """What to say of a state that no search has written so."""
        remedy = "Delete it to measure again; the trials are in study.db and stay."
        return RunError(str(self.folder / "state.json"), f"is damaged: {problem}.", remedy)

    def note(self, **values: Any) -> None:
        """Keep plain values for a resumed run."""
        write_json(self.folder / "state.json", {**self.state(), **values})

    def model_folder(self, genotype_id: str) -> Path:
        """Where the files of one delivered network lie."""
        return self.folder / "models" / genotype_id

    def checkpoint(self, genotype_id: str) -> Path:
        """Where the training of a network stands."""
        return self.folder / "checkpoints" / f"{genotype_id}.pt"

    def keep_checkpoints(self, genotype_ids: Collection[str]) -> None:
        """Remove the checkpoints of all other networks: these are trained anew, should they ever go on."""
        for path in self.checkpoint("").parent.glob("*.pt"):
            if path.stem not in genotype_ids:
                path.unlink(missing_ok=True)

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write the results, in the order they have in the report; the run is finished until it is extended."""
        write_text(self._results, json.dumps(dict(results), indent=2, allow_nan=False) + "\n")

    @property
    def _results(self) -> Path:
        return self.folder / "results.json"

    @property
    def finished(self) -> bool:
        """Whether there are results, and no extension has begun since."""
        return self._results.exists() and self.state().get("superseded") != self._digest()

    def _digest(self) -> str:
        return hashlib.sha256(self._results.read_bytes()).hexdigest()

    def begin_again(self, config: SearchConfig) -> None:
        """Go on by other limits: time is shared out anew, and results that are there last until new ones come."""
        self.keep(config)
        superseded = {"superseded": self._digest()} if self.finished else {}
        kept = {name: value for name, value in (self.state().get("plan") or {}).items() if name in ("first", "epochs")}
        self.note(plan=kept, trained={}, **superseded)

    @property
    def seconds(self) -> float:
        """That all starts together have taken."""
        return float(self.state().get("seconds", 0.0))

    @property
    def longer_command(self) -> str:
        """What to type to go on with this run for twice the time it has taken."""
        return f"{self.resume_command} --time {math.ceil(2 * self.seconds / 60) or 1}m"

    def known_trials(self) -> int:
        """How many trials the run has had, however they ended, by what it wrote beside the study."""
        reported = read_json(self._results).get("trials") or [] if self._results.exists() else []
        return max(int(self.state().get("trials") or 0), len(reported))

    def trials_in_results(self) -> int:
        """How many trials of a finished run ended well."""
        trials = read_json(self._results).get("trials") or []
        return sum(trial["state"] == "complete" for trial in trials)


def resume_command(folder: Path) -> str:
    """What to type to go on with the run in ``folder``."""
    plugins = "".join(f"--plugin {shlex.quote(module)} " for module in in_use())
    return f"medsearch {plugins}search --resume {shlex.quote(str(folder))}"
