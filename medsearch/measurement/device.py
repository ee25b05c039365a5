"""What machine this is, and what was measured on it: the device profile."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from medsearch.core.errors import RunError
from medsearch.core.files import read_json, write_json
from medsearch.measurement.latency.residual import ResidualModel, read_residual
from medsearch.measurement.latency.table import Table, from_data, to_data
from medsearch.targets import DEFAULT
from medsearch.targets.target import make_target

FORMAT = 5


def describe(threads: int, target: str = DEFAULT) -> dict[str, Any]:
    """What a latency depends on besides the network: processor, cores, threads, runtime and its version.

    Raises:
        MedsearchError: if there is no such target, or it cannot run here.
    """
    return {
        "cpu": cpu(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "os": platform.system(),
        **make_target(target, threads).describe(),
    }


def cpu() -> str:
    """Vendor, family and model of the processor, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("vendor_id", "cpu family", "model\t", "model name")
    found = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines if line.startswith(wanted)}
    return " ".join(found.values()) or platform.machine()


def cache_folder() -> Path:
    """Where profiles live: ``$MEDSEARCH_CACHE``, else the user's cache folder by the rules of the platform.

    On Linux that is ``$XDG_CACHE_HOME/medsearch``, else ``~/.cache/medsearch``.
    """
    if named := os.environ.get("MEDSEARCH_CACHE"):
        return Path(named)
    return user_cache_path("medsearch")


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def deaths_file() -> Path:
    """Where faults of libraries are remembered, those of all devices."""
    return cache_folder() / "deaths.jsonl"


class Profile:
    """What was timed on one device, remembered in a JSON file that says which device it is of.

    A file of another device, or of another runtime version, is not used: the profile then starts empty under its own
    name; one that was asked for by name is refused.

    Args:
        threads: of the target.
        target: its name.
        folder: where the file lives; it is named after the device.
        file: the file itself, instead.

    Attributes:
        table: milliseconds of parts.
        overhead: milliseconds that entering the runtime takes, None before it was timed.
        pace: milliseconds of the reference workload that timings are ratios to, None before it was timed.
        sessions: milliseconds of what is being timed, by key, until all its sessions have ended.
        residuals: from sums over parts to whole networks, by space and input.
        accuracy: how far predictions made with these were from networks they had not seen.
        networks: what whole networks took, by cost and circumstances and by the network: what its prediction started
            from (:meth:`~medsearch.measurement.costs.Cost.sums`), and last what was measured.
        precisions: of training that is faster, by the instructions of the processor.
        endings: seconds that one delivery, and then the report, took at the end of searches, by space and input.

    Raises:
        RunError: for a file that is damaged, or of another device where it was asked for by name.
    """

    def __init__(
        self, *, threads: int, target: str = DEFAULT, folder: Path | None = None, file: Path | None = None
    ) -> None:
        self.target = target
        self.device = describe(threads, target)
        digest = hashlib.sha256(json.dumps(self.device, sort_keys=True).encode()).hexdigest()[:10]
        self.path = file or (folder or cache_folder()) / f"profile-{digest}.json"
        self.table = Table()
        self.overhead: float | None = None
        self.pace: float | None = None
        self.sessions: dict[str, list[float]] = {}
        self.residuals: dict[str, ResidualModel] = {}
        self.accuracy: dict[str, Any] = {}
        self.networks: dict[str, dict[str, list[float]]] = {}
        self.precisions: dict[str, str] = {}
        self.endings: dict[str, list[float]] = {}
        if file.exists() if file else _readable(self.path):  # a cache of somebody else is none
            self._read(read_json(self.path), asked=file is not None)
        self._saved: dict[str, Any] = self._data()
        self._written = -math.inf

    def move(self, file: Path) -> None:
        """Live in ``file`` from now on; what it has of this device already is taken over."""
        self.path, self._saved = file, {}
        if file.exists():
            self._read(read_json(file), asked=False)

    def save(self, *, every: float = 0.0) -> None:
        """Write what has been timed since the last time, unless that was less than ``every`` seconds ago.

        Raises:
            WriteError: where that cannot be.
        """
        if time.monotonic() - self._written < every:
            return
        if (data := self._data()) != self._saved:
            write_json(self.path, data)
            self._saved = data
        self._written = time.monotonic()

    def _data(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "device": self.device,
            "overhead_ms": self.overhead,
            "pace_ms": self.pace,
            "accuracy": dict(self.accuracy),
            "residuals": {name: asdict(residual) for name, residual in self.residuals.items()},
            "timings": to_data(self.table),
            "networks": {key: dict(found) for key, found in self.networks.items()},
            "precisions": dict(self.precisions),
            "endings": {key: list(spent) for key, spent in self.endings.items()},
            "sessions": {key: list(spent) for key, spent in self.sessions.items() if all(map(math.isfinite, spent))},
        }

    def _read(self, data: Any, *, asked: bool) -> None:
        known = isinstance(data, dict) and data.get("format") == FORMAT
        if not known or data.get("device") != self.device:
            if asked:
                of = f"of {data.get('device')}" if known else "no device profile of this version"
                remedy = "Make one here: medsearch doctor --profile."
                raise RunError(str(self.path), f"is {of}; this is {self.device}.", remedy)
            return
        numbers, accuracy = [data.get("overhead_ms"), data.get("pace_ms")], data.get("accuracy")
        try:
            if not all(n is None or isinstance(n, float) for n in numbers) or not isinstance(accuracy, dict):
                raise ValueError(f"overhead_ms and pace_ms are {numbers}, accuracy {accuracy!r}")
            self.table, self.accuracy = from_data(data.get("timings")), accuracy
            self.overhead, self.pace = numbers
            self.sessions = _read_sessions(data.get("sessions"))
            self.networks = {key: _read_sessions(found) for key, found in (data.get("networks") or {}).items()}
            self.precisions = {str(key): str(name) for key, name in (data.get("precisions") or {}).items()}
            self.endings = _read_sessions(data.get("endings") or {})
            self.residuals = {name: read_residual(given) for name, given in (data.get("residuals") or {}).items()}
        except (ValueError, AttributeError) as problem:
            raise RunError(str(self.path), f"is damaged: {problem}.", "Delete it, to measure again.") from problem


def _read_sessions(found: Any) -> dict[str, list[float]]:
    """Numbers by key: the sessions of what is being timed, or what is known of networks.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(found, dict) or not all(
        isinstance(spent, list) and all(isinstance(ms, float) for ms in spent) for spent in found.values()
    ):
        raise ValueError(f"expected sessions by key, got {type(found).__name__}")
    return found
