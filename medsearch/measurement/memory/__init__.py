"""Bytes: of operators, of parts, of training steps and of forward passes."""
