"""Generator of sample data: the legacy files of an invented Pend server.

``generate`` writes every legacy JSON file, of any size and with any share of irregular
records; ``IRREGULARITIES`` is the catalogue of irregular records, and ``Damage`` of
damaged files. All hashes, addresses, phone numbers and names are invented.
"""

from pend_storage.sample_data.damage import Damage
from pend_storage.sample_data.irregular import (
    IRREGULARITIES,
    Expected,
    Irregularity,
)
from pend_storage.sample_data.writer import (
    FILES,
    Occurrence,
    SampleReport,
    generate,
)

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
