"""Comparison of two sources of flow: end-point errors by field and by video."""
