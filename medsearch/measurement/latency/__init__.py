"""Milliseconds: of parts and of whole networks in an inference runtime."""
