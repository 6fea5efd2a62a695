"""Benchmarks: one script per question; a regular package, since others install a `benchmarks` too."""
