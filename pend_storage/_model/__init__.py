"""Record model: the values that stores exchange, and what a field may hold. No I/O."""
