"""The readable float64 twin that every engine is held to."""
