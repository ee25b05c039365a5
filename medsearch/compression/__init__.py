"""Smaller and faster: prune, distil, quantize, and measure whether it was worth it."""
