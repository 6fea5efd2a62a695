"""Two sources of flow against each other: end-point errors, field by field and video by video."""
