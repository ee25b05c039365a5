"""The public API: plain functions and results over the rooms below, the same for notebooks and the command line."""
