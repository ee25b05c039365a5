"""Stems: image_BCS -> the first, highest-resolution feature map."""
