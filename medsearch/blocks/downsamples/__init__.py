"""Downsampling between stages: x_BCS -> (B, out_dim, S / stride)."""
