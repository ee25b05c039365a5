"""medsearch: search, compress and export hybrid medical vision backbones under hard budgets."""

import os

__version__ = "0.1.0"

# onnxruntime otherwise leaves a device id and a store of events in the user's cache folder; it reads this when it is
# first imported, so it is set before anything of medsearch is, in every process.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
