"""Channel mixers: x_BCS -> x_BCS, every position on its own (or with its nearest neighbours)."""
