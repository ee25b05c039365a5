"""Ways to try a network, one a file."""
