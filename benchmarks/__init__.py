"""Benchmarks: the stores next to their alternatives. ``python -m benchmarks``."""
