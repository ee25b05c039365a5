"""Heads and decoders: the list of stage features -> what the task asks for."""
