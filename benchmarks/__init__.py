"""How quick the stores are, next to what else one could use. ``python -m benchmarks``."""
