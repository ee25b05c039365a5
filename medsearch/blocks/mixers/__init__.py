"""Token mixers: x_BCS -> x_BCS, positions exchange information."""
