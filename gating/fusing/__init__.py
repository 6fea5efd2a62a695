"""Fusion of two streams that other tools computed: their files, the trials over them, and the results."""
