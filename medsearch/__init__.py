"""medsearch: search, compress and export hybrid medical vision backbones under hard budgets.

::

    import medsearch
    from medsearch import Budget

    result = medsearch.search("images.npz", budget=Budget(memory="1GB", latency="20ms"), time="30m")
    network = result.best.load(num_classes=5)

Everything is imported when it is first used, so ``import medsearch`` is quick and loads no torch.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# onnxruntime otherwise leaves a device id and a store of events in the user's cache folder; it reads this when it is
# first imported, so it is set before anything of medsearch is, in every process.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from medsearch.api.models import compress, create_model, export, load, measure
    from medsearch.api.result import CompressionResult, DeliveredModel, SearchResult
    from medsearch.api.searching import resume, search
    from medsearch.api.spaces import list_spaces
    from medsearch.compression.config import CompressionConfig
    from medsearch.config import SearchConfig
    from medsearch.core.callback import Callback
    from medsearch.core.errors import MedsearchError
    from medsearch.measurement.budget import Budget
    from medsearch.measurement.estimate import Estimate
    from medsearch.spaces import Genotype, Space, load_space

_HOMES = {
    "compress": "medsearch.api.models",
    "create_model": "medsearch.api.models",
    "export": "medsearch.api.models",
    "load": "medsearch.api.models",
    "measure": "medsearch.api.models",
    "CompressionResult": "medsearch.api.result",
    "DeliveredModel": "medsearch.api.result",
    "SearchResult": "medsearch.api.result",
    "resume": "medsearch.api.searching",
    "search": "medsearch.api.searching",
    "list_spaces": "medsearch.api.spaces",
    "CompressionConfig": "medsearch.compression.config",
    "SearchConfig": "medsearch.config",
    "Callback": "medsearch.core.callback",
    "MedsearchError": "medsearch.core.errors",
    "Budget": "medsearch.measurement.budget",
    "Estimate": "medsearch.measurement.estimate",
    "Genotype": "medsearch.spaces",
    "Space": "medsearch.spaces",
    "load_space": "medsearch.spaces",
}

__all__ = [
    "Budget",
    "Callback",
    "CompressionConfig",
    "CompressionResult",
    "DeliveredModel",
    "Estimate",
    "Genotype",
    "MedsearchError",
    "SearchConfig",
    "SearchResult",
    "Space",
    "compress",
    "create_model",
    "export",
    "list_spaces",
    "load",
    "load_space",
    "measure",
    "resume",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medsearch' has no attribute '{name}'")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
