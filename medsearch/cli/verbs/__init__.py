"""The verbs of the command line, one module each: what it says of itself, its options, and the call it makes."""
