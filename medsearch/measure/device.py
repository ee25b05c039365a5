"""What machine this is, and what was measured on it: the device profile."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

from medsearch.core.errors import RunError
from medsearch.core.files import read_json, write_json

FORMAT = 2


def describe(threads: int) -> dict[str, Any]:
    """What a latency depends on besides the network: processor, cores, threads, runtime and its version."""
    import onnxruntime

    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "os": platform.system(),
        "runtime": f"onnxruntime {onnxruntime.__version__} CPU",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("vendor_id", "cpu family", "model\t", "model name")
    found = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines if line.startswith(wanted)}
    return " ".join(found.values()) or platform.machine()


def cache_folder() -> Path:
    """Where profiles live: ``$MEDSEARCH_CACHE``, else ``$XDG_CACHE_HOME/medsearch``, else ``~/.cache/medsearch``."""
    if named := os.environ.get("MEDSEARCH_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medsearch"


class Profile:
    """Milliseconds of network parts on one device, remembered in a JSON file that says which device it is of.

    A file of another device, or of another runtime version, is not used: the profile then starts empty under its own
    name.

    Args:
        threads: of the runtime.
        folder: where the file lives.

    Raises:
        RunError: for a file that is damaged.
    """

    def __init__(self, *, threads: int, folder: Path) -> None:
        self.device = describe(threads)
        digest = hashlib.sha256(json.dumps(self.device, sort_keys=True).encode()).hexdigest()[:10]
        self.path = folder / f"profile-{digest}.json"
        self.parts: dict[str, float] = {}
        self._saved = 0
        if self.path.exists():
            data = read_json(self.path)
            if isinstance(data, dict) and data.get("format") == FORMAT and data.get("device") == self.device:
                self.parts = _parts(data.get("parts"), self.path)
                self._saved = len(self.parts)

    def save(self) -> None:
        """Write what has been measured since the last time."""
        if len(self.parts) != self._saved:
            write_json(self.path, {"format": FORMAT, "device": self.device, "parts": self.parts})
            self._saved = len(self.parts)


def _parts(data: Any, path: Path) -> dict[str, float]:
    if not isinstance(data, dict) or not all(type(ms) in (int, float) and 0 <= ms < math.inf for ms in data.values()):
        raise RunError(str(path), "is not a list of parts with their milliseconds.", "Delete it, to measure again.")
    return {key: float(ms) for key, ms in data.items()}
