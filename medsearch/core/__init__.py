"""Errors, units, registries, checked configuration: what every room stands on.  Imports no other room."""
