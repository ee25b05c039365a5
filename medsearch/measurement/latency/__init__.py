"""Milliseconds: of parts and of whole networks on a deployment target."""
