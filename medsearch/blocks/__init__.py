"""The parts a network is made of: plain modules, one path for 2D and 3D, each file able to stand on its own.

The contract every part obeys:

* the residual stream is ``x_BCS``: batch, channels, then ``dims`` spatial axes (S), any memory format;
* ``__init__(self, dim, *, dims, <knobs with defaults>)``: a keyword *without* a default is set by the network,
  a keyword *with* a default is a knob that a search space may set, and nothing else is needed to know it;
* a wrong knob value is a ``ValueError`` whose text names the part, what was seen and the nearest legal value;
* nothing but torch and ``medsearch.blocks`` is imported, no state outside the module, any legal spatial size,
  one image alone gives the same result as in a batch (in eval mode);
* norms and positions a part needs are inside it; the network adds only the residual.

What a part says about itself, each held to its word by a test, and left out of exported files:

* ``scale(size)``, stems and downsamplings, which must have it: the size of what comes out;
* ``groups()``, where units can be pruned (``medsearch.blocks.groups``); ``keys_per_query(size)``, attention;
* ``FAMILY`` and ``NORM`` on mixers; ``TASKS`` on heads; ``ADDS_NOTHING`` on a part whose branch is left out;
  ``LEAVES_A_SET`` on a downsampling after which there are no neighbours, ``ON_SETS`` on the mixers that may follow it.

Costs are not among these: multiply-adds are counted (``medsearch.measurement.macs.count``), parameters are torch's own.
The closed forms that the counts are tested against, receptive fields and mirror images are in ``tests/blocks/oracles``.
"""

from medsearch.core.registry import Registry

MIXERS = Registry("token mixer", "medsearch.blocks.mixers")
CHANNELS = Registry("channel mixer", "medsearch.blocks.channels")
STEMS = Registry("stem", "medsearch.blocks.stems")
DOWNSAMPLES = Registry("downsampling", "medsearch.blocks.downsamples")
HEADS = Registry("head", "medsearch.blocks.heads")
