"""Former path of :mod:`pend_storage.sample_data`, kept for scripts that import it."""

import sys

from pend_storage.sample_data import (
    FILES,
    IRREGULARITIES,
    Damage,
    Expected,
    Irregularity,
    Occurrence,
    SampleReport,
    generate,
)
from pend_storage.sample_data.__main__ import main

__all__ = [
    "FILES",
    "IRREGULARITIES",
    "Damage",
    "Expected",
    "Irregularity",
    "Occurrence",
    "SampleReport",
    "generate",
]

if __name__ == "__main__":
    sys.exit(main())
