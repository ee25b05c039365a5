"""Smaller and faster: prune, distil, quantize, and measure whether it was worth it."""

from medsearch.compression.compress import Compressed, CompressionConfig, Measured, compress

__all__ = ["Compressed", "Measured", "CompressionConfig", "compress"]
