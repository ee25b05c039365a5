"""What parts cost, how far they look and what a mirror makes of them, in closed form and worked out apart from them.

The package counts multiply-adds one way, ``medsearch.measurement.macs.count``, and parameters as torch has them; these
formulas, from papers or by hand, are what the counts, receptive fields and symmetries are tested against.
"""

from oracles import attention, channels, convolutions, heads, mlps, stems
from oracles.questions import ReceptiveField, macs, mirror_image, parameter_count, receptive_field

__all__ = [
    "ReceptiveField",
    "attention",
    "channels",
    "convolutions",
    "heads",
    "macs",
    "mirror_image",
    "mlps",
    "parameter_count",
    "receptive_field",
    "stems",
]
