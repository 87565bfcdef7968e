"""Commands of ``pend-storage backup``, one module for each family."""
